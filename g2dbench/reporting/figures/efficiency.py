"""Data-efficiency curves: score against the training patients, one panel per task and data set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from g2dbench.errors import BadResult
from g2dbench.reporting.direction import arrow
from g2dbench.reporting.figures.canvas import COLORS, MARKS, MAX_MODELS, label, new_figure
from g2dbench.reporting.leaderboard.entries import Column, Entry
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard

MAX_PANELS, PER_ROW = 12, 3


@dataclass(frozen=True)
class Panel:
    """One setting but for the number of training patients. points: model -> (x, entry), by x.

    x: per cent of the training patients, or shots.
    """

    title: str
    metric: str
    unit: str
    points: Mapping[str, Sequence[tuple[float, Entry]]]


def find_panels(board: Leaderboard) -> list[Panel]:
    """The settings that were run with several numbers of training patients.

    BadResult if there is none, or more than a figure has room for.
    """
    groups: dict[Column, list[Column]] = defaultdict(list)
    for column in board.columns:
        if column.fraction > 0:
            shots = None if column.shots is None else 0
            groups[replace(column, fraction=1.0, shots=shots)].append(column)
    panels = [_panel(board, group) for group in groups.values() if len(group) > 1]
    if not panels:
        raise BadResult(
            "no task and data set was run with two fractions or numbers of shots: there is no "
            "curve to draw (g2dbench eval --fraction 0.01, --fraction 0.1, ...)"
        )
    if len(panels) > MAX_PANELS or len(board.models) > MAX_MODELS:
        raise BadResult(
            f"{len(panels)} panels of {len(board.models)} models are too many for one figure "
            f"({MAX_PANELS} of {MAX_MODELS}): give a folder with fewer, such as results/seg"
        )
    return panels


def _panel(board: Leaderboard, group: Sequence[Column]) -> Panel:
    first = group[0]
    points: dict[str, list[tuple[float, Entry]]] = defaultdict(list)
    for column in group:
        x = column.fraction * 100 if column.shots is None else float(column.shots)
        for model in board.models:
            if (entry := board.entries.get((model, column))) is not None:
                points[model].append((x, entry))
    protocol = "" if first.protocol == "g2d" else f":{first.protocol}"
    extra = "" if first.precision == "fp32" else f" {first.precision}"
    title = f"{first.task}{protocol} {first.data}{extra}"
    unit = "% of training patients" if first.shots is None else "patients per finding"
    return Panel(title, first.metric, unit, {m: sorted(p, key=_x) for m, p in points.items()})


def _x(point: tuple[float, Entry]) -> float:
    return point[0]


def draw(board: Leaderboard) -> Any:
    """The figure; call it within `canvas.style`."""
    panels = find_panels(board)
    columns = min(PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(0.6 + 2.6 * columns, 0.5 + 2.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, board.models)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in grid[: len(panels)]:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(handles)),
        title="Mean over seeds; bars: 95 % intervals over patients",
    )  # fmt: skip
    return figure


def _draw_panel(axes: Any, panel: Panel, models: Sequence[str]) -> None:
    """Lines of the means; bars of the 95 % intervals, side by side on the logarithmic axis."""
    shown = [model for model in models if model in panel.points]
    for at, model in enumerate(shown):
        color, mark = (of[models.index(model)] for of in (COLORS, MARKS))
        shift = 1.05 ** (at - (len(shown) - 1) / 2)
        points = panel.points[model]
        x = [value * shift for value, _ in points]
        y = [entry.mean * 100 for _, entry in points]
        reach = [
            [max(0.0, (entry.mean - entry.low) * 100) for _, entry in points],
            [max(0.0, (entry.high - entry.mean) * 100) for _, entry in points],
        ]  # NaN without an interval: no bar
        axes.errorbar(
            x, y, yerr=reach, color=color, marker=mark, markersize=4, linewidth=1.2, capsize=2,
            elinewidth=0.8, label=label(model),
        )  # fmt: skip
    ticks = sorted({value for points in panel.points.values() for value, _ in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(panel.unit)
    axes.set_ylabel(f"{panel.metric} {arrow(panel.metric)}, %")
    axes.set_title(label(panel.title), loc="left")
