"""Stored masks, boxes and maps over the images: a row per image and finding, a column per model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.data.images.image_file import GrayImage
from g2dbench.dataset import Dataset
from g2dbench.errors import BadResult, Misuse
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.figures.overlay import Overlay, outlines
from g2dbench.reporting.class_sizes import is_present
from g2dbench.reporting.errors.case_overlays import Films, overlay_of
from g2dbench.reporting.errors.cases import Case
from g2dbench.reporting.figures.canvas import COLORS, label, new_figure
from g2dbench.reporting.leaderboard.formats import heading
from g2dbench.reporting.leaderboard.leaderboard import Column, Leaderboard
from g2dbench.reporting.leaderboard.significance import runs_on_disk
from g2dbench.reporting.stored_results import StoredResult

MAX_IMAGES, MAX_MODELS = 12, 6
DEFAULT_IMAGES = 4
TRUTH, PREDICTION = COLORS[5], COLORS[1]

_LOCATED = ({"predicted", "height"}, {"boxes", "scores"}, {"grid", "threshold"})
"""Columns of predictions that locate something: masks, boxes, maps."""

OpenData = Callable[[StoredResult], Dataset]


@dataclass(frozen=True)
class Row:
    """One image and finding: an overlay for each model, in the order of the columns."""

    title: str
    image: GrayImage
    overlays: tuple[Overlay, ...]


@dataclass(frozen=True)
class Sheet:
    """The rows, the models, and the setting that they share."""

    setting: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]


def find_sheet(
    board: Leaderboard,
    stored: Sequence[StoredResult],
    open_data: OpenData,
    ids: Sequence[str] = (),
) -> Sheet:
    """The predictions of the first column of the leaderboard that locates something.

    ids: of images; without them, the first few that have a finding. The smallest seed of each
    model is shown. BadResult if no stored predictions locate anything, Misuse for an unknown id.
    """
    column, tables, first = _located(board, stored)
    models = list(tables)[:MAX_MODELS]
    keys = _select(tables[models[0]], ids)
    films = Films(open_data(first))
    rows = []
    for image, finding in keys:
        sample = films.sample(image)
        case = Case(image, "", finding, "miss", 0.0, 0.0, "", 0)
        found = tuple(overlay_of(case, _record(tables[m], case, m), sample) for m in models)
        rows.append(Row(f"{image}\n{finding}", sample.image, found))
    return Sheet(" ".join(heading(column)[:3]), tuple(models), tuple(rows))


def _located(
    board: Leaderboard, stored: Sequence[StoredResult]
) -> tuple[Column, Mapping[str, pd.DataFrame], StoredResult]:
    """The column, the predictions of its models, and a result of it."""
    runs = runs_on_disk(board, stored)
    for column in board.columns:
        tables: dict[str, pd.DataFrame] = {}
        first = None
        for model in board.models:
            for run in sorted(runs.get((model, column), ()), key=_seeds):
                path = run.predictions()
                table = None if path is None else read_predictions(path)
                if table is not None and any(need <= set(table.columns) for need in _LOCATED):
                    tables[model], first = table, first or run
                    break
        if first is not None:
            return column, tables, first
    raise BadResult(
        "no result here has stored masks, boxes or maps: evaluate seg, det or ground first"
    )


def _seeds(stored: StoredResult) -> tuple[int, int, int]:
    cell = stored.result.cell
    return cell.model_seed or 0, cell.seed, cell.subset_seed


def _select(table: pd.DataFrame, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Image and finding of each row of the figure."""
    known, zeros = set(table["id"].astype(str)), pd.Series(0, table.index)
    for name in ids:
        if name not in known:
            raise Misuse(f"--id {name!r} is none of the predicted images, such as {min(known)!r}")
    sizes = zip(table.get("height", zeros), table.get("width", zeros), strict=True)
    found = [is_present(t, size) for t, size in zip(table["truth"], sizes, strict=True)]
    present = table[np.array(found, dtype=bool)]
    ordered = present.sort_values(["id", "finding"], kind="stable")
    wanted = ordered[ordered["id"].isin(ids)] if ids else ordered.drop_duplicates("id")
    most = MAX_IMAGES if ids else DEFAULT_IMAGES
    keys = [(str(a), str(b)) for a, b in zip(wanted["id"], wanted["finding"], strict=True)]
    if not keys:
        raise BadResult("none of these images has a finding in the ground truth")
    return keys[:most]


def _record(table: pd.DataFrame, case: Case, model: str) -> dict[Any, Any]:
    rows = table[(table["id"] == case.id) & (table["finding"] == case.finding)]
    if len(rows) == 0:
        raise BadResult(f"{model} has no prediction of {case.finding!r} for image {case.id!r}")
    return dict(rows.iloc[0])


def draw(sheet: Sheet) -> Any:
    """The figure; call it within `canvas.style`."""
    rows, columns = len(sheet.rows), len(sheet.models)
    figure = new_figure(max(3.4, 0.8 + 1.9 * columns), 0.7 + 1.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for line, row in zip(grid, sheet.rows, strict=True):
        for axes, overlay in zip(line, row.overlays, strict=True):
            _draw_panel(axes, row.image, overlay)
        line[0].set_ylabel("\n".join(label(text, 28) for text in row.title.split("\n")))
    for axes, model in zip(grid[0], sheet.models, strict=True):
        axes.set_title(label(model, 28))
    figure.suptitle(label(sheet.setting, 60), fontsize=8, x=0.01, ha="left")
    figure.supxlabel("solid blue: ground truth; dashed orange: prediction", fontsize=8)
    return figure


def _draw_panel(axes: Any, image: GrayImage, overlay: Overlay) -> None:
    height, width = image.shape
    extent = (0, width, height, 0)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="bilinear")
    if overlay.heat is not None:
        axes.imshow(overlay.heat, cmap="viridis", alpha=0.4, vmin=0, vmax=1, extent=extent)
    for points in (*map(_corners, overlay.truth_boxes), *outlines(overlay.truth_mask)):
        _line(axes, points, TRUTH, "-")
    for points in (*map(_corners, overlay.predicted_boxes), *outlines(overlay.predicted_mask)):
        _line(axes, points, PREDICTION, (0, (3, 2)))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _corners(box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _line(axes: Any, points: NDArray[np.float64], color: str, dashes: Any) -> None:
    closed = np.vstack([points, points[:1]])
    axes.plot(closed[:, 0], closed[:, 1], color=color, linestyle=dashes, linewidth=1.3)
