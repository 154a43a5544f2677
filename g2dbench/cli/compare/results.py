"""`g2dbench leaderboard`, `score` and `verify`: rank results, recompute and check them."""

import gc
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from g2dbench.cli.console import console, track
from g2dbench.cli.open_results import local_only, open_results
from g2dbench.cli.options import DEFAULT_STORE, Plugins, Results, Store
from g2dbench.cli.panels import COMPARE
from g2dbench.errors import Misuse
from g2dbench.reporting.markup import one_line
from g2dbench.system.counts import counted


class Format(StrEnum):
    """The output format of a leaderboard."""

    rich = "rich"
    md = "md"
    csv = "csv"
    latex = "latex"
    json = "json"
    html = "html"


class Rank(StrEnum):
    """What the models are sorted by."""

    mean = "mean"
    borda = "borda"


class Bold(StrEnum):
    """When the paired tests are made that decide what is bold."""

    auto = "auto"
    always = "always"
    never = "never"


class Source(StrEnum):
    """Publications whose scores are in the package."""

    paper = "paper"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (leaderboard, "g2dbench leaderboard results --format md > table.md"),
        (score, "g2dbench score results"),
        (verify, "g2dbench verify results"),
    ):
        app.command(epilog=f"Example: {example}", rich_help_panel=COMPARE)(command)


def leaderboard(
    results: Results = Path("results"),
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.rich,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Print the reasons for missing cells.")
    ] = False,
    with_limited: Annotated[
        bool, typer.Option("--with-limited", help="Also show results that were run with --limit.")
    ] = False,
    against: Annotated[
        Source | None,
        typer.Option("--against", help="Print published scores, and the results beside them."),
    ] = None,
    rank: Annotated[
        Rank, typer.Option(help="Sort the models by their mean rank or by their Borda count.")
    ] = Rank.mean,
    bold: Annotated[
        Bold,
        typer.Option(
            help="Make the paired tests that decide what is bold: auto makes up to 60 of them."
        ),
    ] = Bold.auto,
    columns: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Also print facts on each entry, with commas between them: n, positives, params, "
            "cost, openness, overlap, oracle, imported, command, versions, split.",
        ),
    ] = "",
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Print models by (task, data, fraction): mean and standard deviation over seeds."""
    from g2dbench.errors import BadResult
    from g2dbench.registry import Registry
    from g2dbench.reporting.leaderboard import formats, significance, terminal
    from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard, without_limited
    from g2dbench.reporting.result_index import read_summaries
    from g2dbench.reporting.stored_results import read_results

    folder, unread = open_results(results)
    if against is not None:
        _print_paper(folder, unread, format_, with_limited)
        return
    names: tuple[str, ...] = ()
    if columns:
        from g2dbench.reporting.leaderboard.facts import FactSources, collect_facts, parse_facts

        names = parse_facts(columns)
    # Facts need whole results, the table only their main scores.
    stored, problems = (read_results if names else read_summaries)(folder)
    keep_until_the_end(stored)
    every = [each.result for each in stored]
    shown, limited = (every, 0) if with_limited else without_limited(every)
    if not shown:
        raise BadResult(
            f"all {counted(limited, 'result')} of {results} were run with --limit: --with-limited "
            "shows them"
        )
    registry = Registry(plugin or ())
    board = build_leaderboard(shown, registry.task_order(), rank.value)
    if bold is not Bold.never:
        most = None if bold is Bold.always else significance.MAX_TESTS
        board = significance.mark_best(board, stored, registry, most, track)
    facts = collect_facts(board, names, FactSources.of(registry, store, stored)) if names else {}
    if format_ is not Format.rich:
        typer.echo(formats.TEXT_FORMATS[format_.value](board, facts))
    else:
        terminal.show(board, console, reasons=reasons, facts=facts)
    if limited:
        left_out = f"{counted(limited, 'result')} run with --limit left out"
        typer.echo(f"{left_out}: --with-limited shows them", err=True)
    report_problems([*unread, *problems])


def _print_paper(results: Path, unread: list[str], format_: Format, with_limited: bool) -> None:
    """Print the paper's tables; without a results folder, the published scores alone."""
    from g2dbench.reporting.leaderboard.leaderboard import without_limited
    from g2dbench.reporting.published import formats
    from g2dbench.reporting.published.comparison import beside_paper
    from g2dbench.reporting.stored_results import read_results

    if format_ in (Format.latex, Format.html):
        raise Misuse(f"--against paper has no {format_.value}: --format md, csv or json")
    stored, problems = read_results(results) if results.is_dir() else ([], [])
    every = [each.result for each in stored]
    found = beside_paper(every if with_limited else without_limited(every)[0])
    if format_ is Format.rich:
        formats.show(found, console)
    else:
        typer.echo(formats.TEXT_FORMATS[format_.value](found))
    report_problems([*unread, *problems])


MANY = 10_000


def keep_until_the_end(stored: Sequence[object]) -> None:
    """Exempt many results from garbage collection, which would go through them again and again."""
    if len(stored) > MANY:
        gc.freeze()


def report_problems(problems: list[str]) -> None:
    """Print each broken file on stderr; exit 1 if there is one."""
    for problem in problems:
        typer.echo(one_line(f"left out: {problem}"), err=True)
    if problems:
        raise typer.Exit(1)


def score(
    results: Results = Path("results"),
    write: Annotated[
        bool, typer.Option("--write", help="Replace scores that differ by the recomputed ones.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Recompute every score from the stored predictions; exit 1 if one differs, or is rewritten."""
    from g2dbench.cards import TaskCard
    from g2dbench.errors import G2DBenchError
    from g2dbench.evaluation.rescore import differences, rescore
    from g2dbench.registry import Registry
    from g2dbench.reporting.stored_results import read_results
    from g2dbench.result import save

    if write:
        local_only(results, "--write")
    registry = Registry(plugin or ())
    folder, unread = open_results(results)
    stored, problems = read_results(folder)
    problems += unread
    done = [each for each in stored if each.result.status == "done"]
    changed = 0
    for each in track(done, "scoring"):
        try:
            task = registry.find(TaskCard, each.result.cell.task).load()
            before, after = rescore(each.folder, task)
        except G2DBenchError as error:
            problems.append(str(error))
            continue
        found = differences(before.scores, after.scores)
        changed += bool(found)
        for line in found:
            console.print(f"{each.folder}: {line}", soft_wrap=True, markup=False)
        if found and write:
            save(after, each.folder)
    verb = "rewritten" if write else "with other scores"
    scored = counted(len(done), "cell")
    console.print(f"scored {scored} from the predictions: {changed} {verb}", soft_wrap=True)
    report_problems(problems)
    if changed and not write:
        raise typer.Exit(1)


def verify(results: Results = Path("results"), plugin: Plugins = None) -> None:
    """Check every result: edited scores, counts or names, swapped predictions, other subsets.

    Exit code: 0 if every result is verified, 1 if one is rejected or there is none.
    """
    from g2dbench.errors import BadResult
    from g2dbench.registry import Registry
    from g2dbench.reporting.verification import verify as verify_one
    from g2dbench.result import result_files

    registry = Registry(plugin or ())
    folder, unread = open_results(results)
    paths = result_files(folder)
    if not paths:
        raise BadResult(f"{results} has no result to verify: run `g2dbench eval` first")
    rejected = 0
    for path in track(paths, "verifying"):
        found = verify_one(path, registry)
        rejected += bool(found.problems)
        for kind, lines in (("rejected", found.problems), ("note", found.notes)):
            for line in lines:
                console.print(Text(one_line(f"{kind}: {path.parent}: {line}")), soft_wrap=True)
    verified = len(paths) - rejected
    console.print(f"{counted(len(paths), 'result')}: {verified} verified, {rejected} rejected")
    report_problems(unread)
    if rejected:
        raise typer.Exit(1)
