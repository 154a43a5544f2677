"""Results as one table: a row for each score, with the cell that it belongs to."""

from collections.abc import Iterable, Iterator

import pandas as pd

from g2dbench.reporting.stored_results import StoredResult
from g2dbench.result import Cell, Result, Score

_SCORE = tuple(Score.model_fields)
COLUMNS = (
    *Cell.model_fields, "status", "reason", "metric", "main", *_SCORE, "train", "valid", "test",
    "imported", "weights", "version", "created", "seconds", "folder",
)  # fmt: skip
"""The columns of `result_table`, in order."""

_WHOLE_NUMBERS = ("model_seed", "limit", "shots", "bearers", "train", "valid", "test")
"""Columns of whole numbers, in which a value may be missing."""


def result_table(results: Iterable[StoredResult]) -> pd.DataFrame:
    """One row per score, in the order of the results; a cell without scores has one row.

    Columns: the fields of `Cell`; `status` and `reason`; `metric`, and whether it is the `main`
    score of its task; the fields of `Score`; the numbers of images in the splits (`train`, `valid`,
    `test`); whether the result was `imported`; from its provenance the digest of the `weights`, the
    `version` of g2dbench, when it was `created` (a time in UTC) and the `seconds` that it took; and
    the `folder` of its files. A cell that is unsupported or failed has its main metric and NaN.
    """
    rows = [row for each in results for row in _rows(each)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["created"] = pd.to_datetime(table["created"], utc=True, errors="coerce", format="ISO8601")
    return table.astype(dict.fromkeys(_WHOLE_NUMBERS, "Int64"))


def _rows(stored: StoredResult) -> Iterator[tuple[object, ...]]:
    result = stored.result
    missing = {result.metric: Score(value=float("nan"))}
    for name, score in (result.scores or missing).items():
        known = {
            **result.cell.model_dump(),
            **score.model_dump(),
            **_of_result(result),
            "metric": name,
            "main": name == result.metric,
            "folder": str(stored.folder),
        }
        yield tuple(known.get(column) for column in COLUMNS)


def _of_result(result: Result) -> dict[str, object]:
    origin = result.provenance
    return {
        "status": result.status,
        "reason": result.reason,
        **result.counts,
        "imported": result.details.get("imported") is True,
        "weights": origin.weights,
        "version": origin.version,
        "created": origin.created,
        "seconds": origin.seconds,
    }
