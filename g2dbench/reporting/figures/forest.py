"""Forest plot: each model minus a reference on the same images, with 95 % intervals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from g2dbench.errors import BadResult, G2DBenchError, Misuse
from g2dbench.metrics.bootstrap import holm
from g2dbench.progress import Progress, quiet
from g2dbench.registry import Registry, unknown_name
from g2dbench.reporting.direction import lower_is_better
from g2dbench.reporting.figures.canvas import COLORS, label, new_figure
from g2dbench.reporting.leaderboard.formats import heading
from g2dbench.reporting.leaderboard.leaderboard import Column, Leaderboard
from g2dbench.reporting.leaderboard.ranks import by_column
from g2dbench.reporting.leaderboard.significance import runs_on_disk
from g2dbench.reporting.model_comparison import SIGNIFICANCE, compare_runs
from g2dbench.reporting.stored_results import StoredResult
from g2dbench.system.counts import counted

MAX_ROWS = 60

_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
"""A background that hides the line of zero behind a text."""


@dataclass(frozen=True)
class Difference:
    """A model minus the reference, in points: positive is better, whatever the metric.

    p_holm: corrected over all rows of the figure.
    """

    column: Column
    model: str
    reference: str
    value: float
    low: float
    high: float
    p_holm: float


def find_differences(
    board: Leaderboard,
    stored: Iterable[StoredResult],
    registry: Registry,
    reference: str | None = None,
    progress: Progress = quiet,
) -> tuple[list[Difference], list[str]]:
    """The differences by column, and a sentence for each pair that cannot be compared.

    reference: a model; None takes the best of each column. Misuse if no result has it, BadResult if
    nothing can be compared.
    """
    if reference is not None and reference not in board.models:
        raise Misuse(unknown_name("model in these results", reference, list(board.models)))
    runs = runs_on_disk(board, stored)
    pairs = [
        (column, reference or models[0], model)
        for column, models in by_column(board.entries, board.columns).items()
        for model in models
        if models and model != (reference or models[0]) and (reference or models[0]) in models
    ]
    if len(pairs) > MAX_ROWS:
        raise BadResult(
            f"{len(pairs)} comparisons are too many for one figure ({MAX_ROWS}): give a folder "
            "with fewer results, such as results/seg"
        )
    found: list[Difference] = []
    left_out = []
    for column, best, model in progress(pairs, "comparing"):
        try:
            test = compare_runs(runs[model, column], runs[best, column], registry, column.metric)
        except G2DBenchError as error:
            left_out.append(f"{model} and {best}, {' '.join(heading(column))}: {error}")
            continue
        each = test.difference
        low, high, value = each.low * 100, each.high * 100, each.value * 100
        if lower_is_better(column.metric):
            low, high, value = -high, -low, -value
        found.append(Difference(column, model, best, value, low, high, each.p_value))
    if not found:
        why = left_out[0] if left_out else "no column has two models with a score"
        raise BadResult(f"there is no difference to draw: {why}")
    adjusted = holm([each.p_holm for each in found])
    return [replace(e, p_holm=float(p)) for e, p in zip(found, adjusted, strict=True)], left_out


def draw(differences: Sequence[Difference]) -> Any:
    """The figure; call it within `canvas.style`."""
    lines = _lines(differences)
    figure = new_figure(6.5, 0.9 + 0.22 * len(lines))
    names, axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 4))
    for at, (text, each) in enumerate(lines):
        if each is None:
            # A heading may run over the plot, where its line is empty but for that of zero.
            shown = names.text(0, at, text, va="center", weight="bold", bbox=_PAPER)
        else:
            shown = names.text(0.05, at, text, va="center")
            _draw_row(axes, at, each)
        shown.set_in_layout(False)
    axes.axvline(0, color="#666666", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("difference in points; right of 0: better")
    names.set_axis_off()
    names.set_zorder(2)
    figure.supxlabel(
        "Lines: 95 % intervals. Filled: significant at 5 % after Holm's correction for "
        f"{counted(len(differences), 'comparison')}.", fontsize=7,
    )  # fmt: skip
    return figure


def _draw_row(axes: Any, at: int, each: Difference) -> None:
    fill = COLORS[0] if each.p_holm < SIGNIFICANCE else "white"
    axes.plot([each.low, each.high], [at, at], color=COLORS[0], linewidth=1.2)
    axes.plot([each.value], [at], marker="o", markersize=5, color=COLORS[0], markerfacecolor=fill)
    axes.annotate(
        f"{each.value:+.1f} [{each.low:+.1f}, {each.high:+.1f}]", (1.01, at),
        xycoords=("axes fraction", "data"), va="center", annotation_clip=False,
    )  # fmt: skip


def _lines(differences: Sequence[Difference]) -> list[tuple[str, Difference | None]]:
    """A line for each column with its reference, and below it one for each model."""
    lines: list[tuple[str, Difference | None]] = []
    last = None
    for each in differences:
        if each.column != last:
            title = label(" ".join(heading(each.column)), 44)
            lines.append((f"{title}, minus {label(each.reference, 30)}", None))
            last = each.column
        lines.append((label(each.model, 30), each))
    return lines
