"""`g2dbench calibration` and `fairness`: analyses of stored predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from g2dbench.cli.console import console
from g2dbench.cli.options import DEFAULT_STORE, EachFinding, Plugins, Store
from g2dbench.cli.panels import COMPARE
from g2dbench.errors import BadResult, Misuse
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.metrics.calibration import ReliabilityTable
    from g2dbench.reporting.calibration import Calibration
    from g2dbench.reporting.fairness import GroupGap
    from g2dbench.result import Score

ResultFolders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="RESULTS", help="Folders of results or single cells.", show_default="results"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (calibration, "g2dbench calibration results/cls --findings"),
        (fairness, "g2dbench fairness results/cls --by sex"),
    ):
        app.command(epilog=f"Example: {example}", rich_help_panel=COMPARE)(command)


def calibration(
    results: ResultFolders = None,
    findings: EachFinding = False,
    reliability: Annotated[
        bool, typer.Option("--reliability", help="Also print the reliability table.")
    ] = False,
) -> None:
    """Calibration of stored probabilities: ECE, Brier score, and what a temperature changes."""
    from g2dbench.reporting import calibration as analysis
    from g2dbench.reporting.stored_cells import stored_cells
    from g2dbench.result import VALID_PREDICTIONS_FILE

    assessed = 0
    lacking = 0
    for cell in stored_cells(results or [Path("results")]):
        if reason := analysis.why_not(cell.predictions):
            console.print(f"{cell.title}: left out: {reason}", soft_wrap=True, markup=False)
            continue
        valid = cell.valid_predictions()
        found = analysis.calibration(cell.predictions, valid)
        assessed += 1
        lacking += valid is None
        console.print(_calibration_table(cell.title, found, findings))
        if reliability:
            console.print(_reliability_table(found.reliability[""]))
    if lacking:
        console.print(
            f"{counted(lacking, 'cell')} without {VALID_PREDICTIONS_FILE}: no temperature could be "
            "fitted on validation predictions. The metrics with _crossfit in their name use a "
            "temperature fitted on the other half of the test patients: they show what a "
            "temperature would change, and are not comparable with published scores.",
            soft_wrap=True,
        )
    if not assessed:
        raise typer.Exit(1)


def _calibration_table(title: str, found: "Calibration", findings: bool) -> Table:
    table = Table(title=escape(title), title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("metric")
    # Temperatures are fitted for each finding: without findings the column would be empty.
    for heading in ("value", "95 % interval", "images", *(["temperatures"] if findings else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    kinds = {"_crossfit": ("crossfit_1", "crossfit_2"), "_temperature": ("valid",)}
    for name, score in found.scores.items():
        metric, _, finding = name.partition(":")
        if finding and not findings:
            continue
        fits = next((each for suffix, each in kinds.items() if metric.endswith(suffix)), ())
        chosen = [found.temperatures[fit][finding] for fit in fits] if finding else []
        texts = [" ".join(f"{temperature:.2f}" for temperature in chosen)] if findings else []
        table.add_row(name, *_numbers(score), str(score.n), *texts)
    return table


def _reliability_table(found: "ReliabilityTable") -> Table:
    table = Table(title="all findings", title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("probability", "labels", "mean probability", "share of positives"):
        table.add_column(heading, justify="right")
    for low, high, count, confidence, frequency in zip(*found, strict=True):
        if count:
            edges = f"{low:.3f} to {high:.3f}"
            table.add_row(edges, str(count), f"{confidence:.3f}", f"{frequency:.3f}")
    return table


def _numbers(score: "Score") -> tuple[str, str]:
    """Value and interval as text."""
    if score.value != score.value:
        return "undefined", "-"
    interval = "-" if score.low != score.low else f"[{score.low:.3f}, {score.high:.3f}]"
    return f"{score.value:.3f}", escape(interval)


def fairness(
    results: ResultFolders = None,
    by: Annotated[
        str, typer.Option(help="sex, age, view, or a column of --groups, such as source.")
    ] = "sex",
    groups: Annotated[
        Path | None,
        typer.Option(help="Your own table (.csv, .parquet): `id` or `patient`, and the column."),
    ] = None,
    findings: EachFinding = False,
    ages: Annotated[
        str, typer.Option("--age-bands", help="First year of each band but the first.")
    ] = "18,40,60,80",
    min_patients: Annotated[
        int, typer.Option(min=2, help="Withhold the score of smaller groups.")
    ] = 50,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Gaps between groups of patients, with intervals and a permutation test."""
    from g2dbench.evaluation.sweep.grid import load_tasks
    from g2dbench.registry import Registry
    from g2dbench.reporting import fairness as analysis
    from g2dbench.reporting.patient_groups import GroupSource
    from g2dbench.reporting.stored_cells import stored_cells
    from g2dbench.task import protocol_of_cell

    registry = Registry(plugin or ())
    source = GroupSource(by, store, groups, _parse_bands(ages))
    for cell in stored_cells(results or [Path("results")]):
        (task,) = load_tasks([cell.result.cell.task], registry)
        if not hasattr(task, "statistics"):
            raise BadResult(f"the task {cell.result.cell.task!r} has no `statistics`")
        settings = protocol_of_cell(task, cell.result.cell.protocol)
        statistics = task.statistics(cell.predictions, settings)
        main = cell.result.metric
        metrics = [
            name
            for name in statistics
            if name == main or (findings and name.startswith(f"{main}:"))
        ]
        chosen = source.groups_of(cell)
        found = analysis.group_gaps(cell.predictions, statistics, metrics, chosen, min_patients)
        console.print(f"{cell.title}, by {by}", soft_wrap=True, markup=False, style="bold")
        for gap in found:
            _print_gap(gap, min_patients)


def _parse_bands(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise Misuse(f"--age-bands {text}: write years with commas, such as 18,40,60,80") from None


def _print_gap(gap: "GroupGap", min_patients: int) -> None:
    table = Table(padding=(0, 1, 0, 0))
    table.add_column(gap.metric)
    for heading in ("patients", "images", "value", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in gap.groups:
        shown = ("withheld", "-") if group.score is None else _numbers(group.score)
        table.add_row(escape(group.name), str(group.patients), str(group.images), *shown)
    table.add_section()
    table.add_row("gap", "", str(gap.gap.n), *_numbers(gap.gap))
    console.print(table)
    for line in _notes(gap, min_patients):
        console.print(line, soft_wrap=True, markup=False)


def _notes(gap: "GroupGap", min_patients: int) -> list[str]:
    lines = []
    if gap.p_value == gap.p_value:
        adjusted = "" if gap.p_holm == gap.p_value else f", {gap.p_holm:.3f} after Holm's method"
        lines.append(f"p {gap.p_value:.3f}{adjusted}: permutation test of no gap")
    elif gap.mixed:
        patients = counted(gap.mixed, "patient")
        lines.append(f"no permutation test: {patients} with images of several groups")
    withheld = [group.name for group in gap.groups if group.score is None]
    if withheld:
        lines.append(f"withheld, fewer than {min_patients} patients: {', '.join(withheld)}")
    unclear = [g.name for g in gap.groups if g.score and g.score.value != g.score.value]
    if unclear:
        lines.append(
            f"undefined, a finding has one class only in the group: {', '.join(unclear)} "
            "(--findings prints each finding)"
        )
    if gap.unknown:
        lines.append(f"{counted(gap.unknown, 'image')} in no group: not known")
    return lines
