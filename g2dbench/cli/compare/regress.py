"""`g2dbench regress`: the score gate of CI."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from g2dbench.cli.compare.results import keep_until_the_end, report_problems
from g2dbench.cli.console import console
from g2dbench.cli.open_results import local_only, open_results
from g2dbench.cli.options import Plugins, Results
from g2dbench.cli.panels import COMPARE
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.reporting.gate.regression_gate import Change
    from g2dbench.reporting.stored_results import StoredResult

EPILOG = """Examples:

g2dbench regress --baseline baseline results

g2dbench regress --baseline baseline results --tolerance 0.02 --tolerance dice=0.05 --junit gate.xml

g2dbench regress --baseline baseline results --update

A score fails if it fell by more than its tolerance and the paired test over patients does not call
the fall noise (p of 0.05 or more). The test needs the predictions of both sides; without them, or
with --strict, the tolerance decides alone.

Exit code: 0 open; 1 a score fell, or a cell is missing or failed; 2 the request is wrong; 3 cells
cannot be compared (other data, subset or protocol settings), or nothing was compared.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=COMPARE)(regress)


def regress(
    baseline: Annotated[
        Path, typer.Option("--baseline", help="Results to compare with: a folder or address.")
    ],
    results: Results = Path("results"),
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="NUMBER for all metrics, METRIC=NUMBER for one. Repeats.", show_default="0.01"
        ),
    ] = None,
    tolerances: Annotated[
        Path | None, typer.Option(help="File with one --tolerance per line; # starts a comment.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Let the tolerance decide alone, without the test.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Also write Markdown to this file.")] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Also print GitHub annotations.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Replace the baseline's cells by the new results.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Compare scores with a baseline; the exit code is the gate."""
    from g2dbench.registry import Registry
    from g2dbench.reporting.gate import gate_formats, regression_gate
    from g2dbench.reporting.gate.gate_noise import paired_test
    from g2dbench.reporting.result_index import read_summaries
    from g2dbench.reporting.stored_results import read_results

    if update:
        local_only(baseline, "--update")
    words = [*_read_tolerances(tolerances), *(tolerance or [])]
    limits = regression_gate.parse_tolerances(words)
    # Summaries have the main score only, which is all that the default tolerance looks at.
    read = read_summaries if limits.keys() == {""} else read_results
    old_folder, old_unread = open_results(baseline)
    new_folder, new_unread = open_results(results)
    old, old_problems = read(old_folder)
    new, new_problems = read(new_folder)
    test = None if strict else paired_test(Registry(plugin or ()))
    keep_until_the_end([*old, *new])
    changes = regression_gate.compare(old, new, limits, test)
    _print_changes(changes)
    for change in changes:
        if change.reason:
            console.print(escape(f"{change.name}: {change.reason}"), soft_wrap=True)
    for path, to_text in ((junit, gate_formats.junit), (summary, gate_formats.markdown)):
        if path is not None:
            _write(path, to_text(changes))
    if github:
        for line in gate_formats.github_annotations(changes):
            typer.echo(line)
    console.print(gate_formats.count_verdicts(changes))
    if update:
        _update(baseline, new_folder, old, new)
        return
    report_problems([*old_unread, *new_unread, *old_problems, *new_problems])
    if code := regression_gate.exit_code(changes):
        raise typer.Exit(code)


def _write(path: Path, text: str) -> None:
    from g2dbench.system.files import replace_file

    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _read_tolerances(path: Path | None) -> list[str]:
    """The lines of a tolerance file without comments; Misuse if it cannot be read."""
    from g2dbench.errors import Misuse

    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path} cannot be read as a list of tolerances: {error}") from error
    return [text for line in lines if (text := line.partition("#")[0].strip())]


def _update(
    baseline: Path, results: Path, old: "list[StoredResult]", new: "list[StoredResult]"
) -> None:
    """Replace the baseline's cells by the new finished ones; other cells of the baseline stay.

    Predictions are copied if the baseline has some, so that a small baseline stays small.
    """
    from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE

    with_predictions = any((each.folder / PREDICTIONS_FILE).is_file() for each in old)
    done = [each for each in new if each.result.status == "done"]
    keys = {each.result.cell for each in done}
    for each in old:
        if each.result.cell in keys:
            shutil.rmtree(each.folder)
    names = (PREDICTIONS_FILE, RESULT_FILE) if with_predictions else (RESULT_FILE,)
    for each in done:
        place = baseline / each.folder.relative_to(results)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(each.folder / name, place / name)
    console.print(f"{baseline} now has {counted(len(done), 'new cell')}: review and commit it")


_STYLE = {
    "fell": "bold red",
    "missing": "bold red",
    "failed": "bold red",
    "incomparable": "bold yellow",
    "noise": "yellow",
    "rose": "green",
    "new": "cyan",
    "same": "dim",
}


_MAX_ROWS = 1000
"""Of more changes than this, those that are none are only counted: 100,000 rows take a minute."""


def _print_changes(changes: "list[Change]") -> None:
    shown = changes
    if len(changes) > _MAX_ROWS:
        shown = [change for change in changes if change.verdict != "same"]
    if shown:
        console.print(_table(shown))
    if unchanged := len(changes) - len(shown):
        console.print(f"{counted(unchanged, 'unchanged score')} not listed")


def _table(changes: "list[Change]") -> Table:
    table = Table(padding=(0, 1, 0, 0))
    for heading in ("cell", "metric"):
        table.add_column(heading, overflow="fold")
    for heading in ("before", "now", "change", "within", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for change in changes:
        table.add_row(
            escape(change.name),
            escape(change.metric),
            f"{change.before:.4f}",
            f"{change.now:.4f}",
            f"{change.now - change.before:+.4f}",
            f"{change.tolerance:g}",
            "" if change.p_value is None else f"{change.p_value:.3f}",
            change.verdict,
            style=_STYLE[change.verdict],
        )
    return table
