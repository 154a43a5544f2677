"""Gathers everything that a report shows: a pure function of stored results and prepared images."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import g2dbench
from g2dbench.dataset import Dataset
from g2dbench.errors import G2DBenchError
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.progress import Progress, quiet
from g2dbench.registry import Registry
from g2dbench.reporting.errors.case_overlays import Films
from g2dbench.reporting.html import curves, records
from g2dbench.reporting.html.differences import Pairing, difference_records, pairing
from g2dbench.reporting.html.gallery import Pictures, gallery_cards
from g2dbench.reporting.html.page import Page
from g2dbench.reporting.leaderboard import formats as leaderboard_formats
from g2dbench.reporting.leaderboard.leaderboard import Column, Leaderboard, build_leaderboard
from g2dbench.reporting.leaderboard.significance import mark_best
from g2dbench.reporting.model_names import name_models
from g2dbench.reporting.stored_results import StoredResult
from g2dbench.system.counts import counted

MAX_CURVES, MAX_GALLERIES, MAX_PICTURES = 120, 24, 500
"""Most results with curves, results with a gallery, and images of a report."""

OpenData = Callable[[StoredResult], Dataset]
"""Opens the images on which a result was evaluated; BadData or Misuse if they are not there."""


@dataclass
class _Gathering:
    """Results by model and column, and the sentences for the reader that come up on the way."""

    stored: Sequence[StoredResult]
    registry: Registry
    progress: Progress
    notes: list[str] = field(default_factory=list)


def build_report(
    stored: Sequence[StoredResult],
    registry: Registry,
    *,
    open_data: OpenData | None = None,
    problems: Sequence[str] = (),
    progress: Progress = quiet,
) -> Page:
    """The content of a report. open_data: None for a report without images.

    problems: sentences about files that could not be read; they are shown with the notes.
    """
    gathering = _Gathering(stored, registry, progress)
    results = [each.result for each in stored]
    board = build_leaderboard(results, registry.task_order())
    board = mark_best(board, stored, registry, progress=progress)
    names = name_models(results)
    first = _representatives(stored, names.of, board)
    folders: dict[tuple[str, Column], dict[Pairing, Path]] = defaultdict(dict)
    for each in stored:
        cell = each.result.cell
        if each.result.status == "done" and each.predictions() is not None:
            key = names.of(each.result), records.column_of(each.result)
            folders[key][pairing(cell)] = each.folder
    differences, notes = difference_records(board, folders, registry, progress)
    gathering.notes += notes
    found_curves = _curves(gathering, first)
    galleries, pictures = _galleries(gathering, first, open_data)
    models = list(dict.fromkeys([*board.models, *(names.of(result) for result in results)]))
    return Page(
        version=g2dbench.__version__,
        notes=[*leaderboard_formats.legend(board), *gathering.notes],
        problems=list(problems),
        data={
            "models": models,
            "columns": records.column_records(board.columns),
            "board": records.board_records(board),
            "row_names": records.ROW,
            "rows": records.row_records(results, names, models, board.columns),
            "block": records.BLOCK,
            "differences": differences,
            "curves": found_curves,
            "galleries": [{k: v for k, v in each.items() if k != "cards"} for each in galleries],
        },
        details=records.detail_blocks(results),
        cards=[each["cards"] for each in galleries],
        pictures=pictures.stored,
    )


def _representatives(
    stored: Sequence[StoredResult], name: Callable[[Any], str], board: Leaderboard
) -> list[tuple[int, StoredResult]]:
    """The result of the smallest seed of each model and column, with its position.

    In the order of the columns, then of the models, so that limits leave out the last ones.
    """
    chosen: dict[tuple[str, Column], tuple[int, StoredResult]] = {}
    for at, each in enumerate(stored):
        if each.result.status != "done":
            continue
        key = name(each.result), records.column_of(each.result)
        if key not in chosen or _seeds(each) < _seeds(chosen[key][1]):
            chosen[key] = at, each
    models = {model: at for at, model in enumerate(board.models)}
    columns = {column: at for at, column in enumerate(board.columns)}
    order = sorted(chosen, key=lambda key: (columns[key[1]], models.get(key[0], len(models))))
    return [chosen[key] for key in order]


def _seeds(stored: StoredResult) -> tuple[int, int, int]:
    cell = stored.result.cell
    return cell.model_seed or 0, cell.seed, cell.subset_seed


def _curves(
    gathering: _Gathering, chosen: Sequence[tuple[int, StoredResult]]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    left_out = 0
    for at, each in gathering.progress(chosen, "curves"):
        if (table := _predictions(gathering, each)) is None or not curves.has_scores(table.columns):
            continue
        if len(found) == MAX_CURVES:
            left_out += 1
            continue
        try:
            found.append({"row": at, "findings": curves.curves(table)})
        except G2DBenchError as error:
            gathering.notes.append(f"No curves of {each.folder}: {error}.")
    if left_out:
        gathering.notes.append(
            f"Curves: of {MAX_CURVES} results; {counted(left_out, 'more result')} left out."
        )
    return found


def _predictions(gathering: _Gathering, stored: StoredResult) -> pd.DataFrame | None:
    """The stored predictions; None if there are none, and with a note if they are broken."""
    if (path := stored.predictions()) is None:
        return None
    try:
        return read_predictions(path)
    except G2DBenchError as error:
        if (sentence := f"{error}.") not in gathering.notes:
            gathering.notes.append(sentence)
        return None


def _galleries(
    gathering: _Gathering, chosen: Sequence[tuple[int, StoredResult]], open_data: OpenData | None
) -> tuple[list[dict[str, Any]], Pictures]:
    pictures = Pictures()
    if open_data is None:
        return [], pictures
    found: list[dict[str, Any]] = []
    films: dict[tuple[str, str], Films | str] = {}
    reasons: dict[str, None] = {}
    left_out = 0
    for at, each in gathering.progress(chosen, "images"):
        if (table := _predictions(gathering, each)) is None:
            continue
        if len(found) == MAX_GALLERIES or len(pictures.stored) >= MAX_PICTURES:
            left_out += 1
            continue
        opened = _films(each, films, open_data)
        if isinstance(opened, str):
            reasons[opened] = None
            continue
        try:
            cards = gallery_cards(table, each.result.cell.data, opened, pictures)
        except G2DBenchError as error:
            reasons[f"No images of {each.folder}: {error}."] = None
            continue
        found.append({"row": at, "count": len(cards), "cards": cards})
    gathering.notes += reasons
    if left_out:
        gathering.notes.append(
            f"Images: of {counted(len(found), 'result')}; {counted(left_out, 'more result')} left "
            "out. Make a report of fewer results to see them."
        )
    return found, pictures


def _films(
    stored: StoredResult, opened: dict[tuple[str, str], Films | str], open_data: OpenData
) -> Films | str:
    """The images of a result, or the sentence why there are none."""
    name, fingerprint = stored.result.cell.data, stored.result.provenance.data
    if (name, fingerprint) not in opened:
        try:
            opened[name, fingerprint] = Films(open_data(stored))
        except G2DBenchError as error:
            opened[name, fingerprint] = f"No images of {name}: {error}."
    return opened[name, fingerprint]
