"""Recomputes scores from stored predictions; detects edited results and predictions."""

import math
from collections.abc import Mapping
from pathlib import Path

from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, Result, Score, load
from g2dbench.system.files import file_digest
from g2dbench.task import Task, protocol_of_cell

ROUNDING = 1e-9
"""Tolerance: recomputed scores may differ by the order of a sum."""


def rescore(folder: Path, task: Task) -> tuple[Result, Result]:
    """Recompute a done cell's scores from its predictions; returns (stored, recomputed)."""
    result = load(folder / RESULT_FILE)
    path = folder / PREDICTIONS_FILE
    if not path.is_file():
        raise BadResult(f"{folder} has no {PREDICTIONS_FILE}: run the cell again with --rerun")
    if (digest := file_digest(path)) != result.provenance.predictions:
        raise BadResult(
            f"{path} is not the file from which the result was computed "
            f"(SHA-256 {digest[:12]}, recorded {str(result.provenance.predictions)[:12]})"
        )
    config = protocol_of_cell(task, result.cell.protocol)
    scores = task.score(read_predictions(path), config)
    return result, result.model_copy(update={"scores": scores})


def differences(stored: Mapping[str, Score], found: Mapping[str, Score]) -> list[str]:
    """One line for each value, bound of an interval or count that differs from the stored one."""
    lines = []
    for name in sorted(stored.keys() | found.keys()):
        one, other = stored.get(name), found.get(name)
        if one is None or other is None:
            lines.append(f"{name}: {'not stored' if one is None else 'no longer computed'}")
        else:
            lines += [f"{name}: {change}" for change in _changes(one, other)]
    return lines


def _changes(one: Score, other: Score) -> list[str]:
    """What differs between a stored and a recomputed score."""
    lines = []
    for field in ("value", "low", "high"):
        a, b = getattr(one, field), getattr(other, field)
        if not (math.isclose(a, b, abs_tol=ROUNDING) or (math.isnan(a) and math.isnan(b))):
            lines.append(
                f"{'' if field == 'value' else field + ' '}stored {a:.6f}, recomputed {b:.6f}"
            )
    for field in ("n", "bearers"):
        a, b = getattr(one, field), getattr(other, field)
        # Results of older versions have no bearers.
        if a != b and a is not None:
            lines.append(f"{field} stored {a}, recomputed {b}")
    return lines
