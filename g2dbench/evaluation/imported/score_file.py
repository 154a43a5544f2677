"""Scores of findings from a CSV, checked against the test images of a prepared data set.

Long form: one row per image and finding, with the columns id, finding and score, and optionally
threshold, claim (the decision, 1 or 0) and truth. Wide form: one row per image, with the columns id
and one per finding. Scores are in [0, 1].

Shapes: N test images, K findings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.data.tables.columns import find_column
from g2dbench.data.tables.csv import header, number, read_table
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.imported.rows import check_complete, locate
from g2dbench.evaluation.prediction_table import labels
from g2dbench.metrics.classification import labeled

OPTIONAL = ("threshold", "claim", "truth")


@dataclass(frozen=True)
class ScoreFile:
    """(N, K) scores in the order of the test images; the optional columns, NaN if not given."""

    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    claim: NDArray[np.float64]


def read_scores(path: Path, test: Dataset, findings: Sequence[str]) -> ScoreFile:
    """The scores of all these findings for all test images.

    BadData names the file and the row: an image or finding is unknown, missing or given twice, a
    score is no number in [0, 1], or a given truth is not that of the data set.
    """
    table = _long(path, findings)
    columns = {name: np.full((len(test), len(findings)), np.nan) for name in ("score", *OPTIONAL)}
    rows, places = locate(path, table, test, findings)
    for name, values in columns.items():
        values[rows, places] = [
            _number(path, line, name, text)
            for line, text in zip(table["line"], table[name], strict=True)
        ]
    check_complete(path, ~np.isnan(columns["score"]), test, findings)
    _check_truth(path, columns["truth"], test, findings)
    return ScoreFile(columns["score"], columns["threshold"], columns["claim"])


def _long(path: Path, findings: Sequence[str]) -> pd.DataFrame:
    """Text cells in long form, whatever the form of the file."""
    if find_column(header(path), "finding") is not None:
        return read_table(path, ("id", "finding", "score"), OPTIONAL)
    wide = read_table(path, ("id", *findings))
    parts = [
        wide[["id", "line"]].assign(finding=finding, score=wide[finding]) for finding in findings
    ]
    return pd.concat(parts, ignore_index=True).assign(**dict.fromkeys(OPTIONAL, ""))


_RANGES: Mapping[str, str] = {"claim": "0 or 1", "truth": "0, 1 or -1"}


def _number(path: Path, line: int, name: str, text: str) -> float:
    if text == "" and name != "score":
        return np.nan
    try:
        value = number(text, f"the {name}")
    except BadData as error:
        raise BadData(f"{path}, line {line}: {error}") from error
    allowed = {"claim": value in (0, 1), "truth": value in (0, 1, -1)}
    if not allowed.get(name, 0 <= value <= 1):
        wanted = _RANGES.get(name, "between 0 and 1: write probabilities, not logits")
        raise BadData(f"{path}, line {line}: the {name} {text} is not {wanted}")
    return value


def _check_truth(
    path: Path, given: NDArray[np.float64], test: Dataset, findings: Sequence[str]
) -> None:
    truth = labels(test, findings)
    both = labeled(given) & labeled(truth)
    wrong = both & (given != truth)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        image = test.table["id"].iloc[row]
        raise BadData(
            f"{path}: {int(wrong.sum())} of {int(both.sum())} truths are not those of "
            f"{test.card.name}; the first: {findings[column]!r} of image {image!r} is "
            f"{truth[row, column]:g} there. Were the rows mixed up, or was another split used?"
        )
