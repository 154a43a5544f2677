"""Finds the test image and the finding of each imported row; nothing unknown, missing or twice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.data.tables.columns import canonical
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.system.counts import counted


def locate(
    path: Path, table: pd.DataFrame, test: Dataset, findings: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The test image and the finding of each row; table: text columns id, finding, and line.

    Findings are compared without case and punctuation. BadData for unknown or repeated ones.
    """
    rows = find_images(path, table["id"].tolist(), test, table["line"].tolist())
    known = {canonical(name): place for place, name in enumerate(findings)}
    places = np.array([known.get(canonical(name), -1) for name in table["finding"]], np.intp)
    if (places < 0).any():
        first = int(np.flatnonzero(places < 0)[0])
        raise BadData(
            f"{path}, line {table['line'].iloc[first]}: {table['finding'].iloc[first]!r} is no "
            f"finding that is scored on {test.card.name}; these are: {', '.join(findings)}"
        )
    repeated = pd.DataFrame({"row": rows, "place": places}).duplicated().to_numpy()
    if repeated.any():
        first = int(np.flatnonzero(repeated)[0])
        raise BadData(
            f"{path}, line {table['line'].iloc[first]}: {table['finding'].iloc[first]!r} of image "
            f"{table['id'].iloc[first]!r} is given twice"
        )
    return rows, places


def find_images(
    path: Path, ids: Sequence[str], test: Dataset, lines: Sequence[int]
) -> NDArray[np.intp]:
    """The index of each id among the test images; BadData for an unknown one."""
    known = {str(name): row for row, name in enumerate(test.table["id"])}
    rows = np.array([known.get(name, -1) for name in ids], np.intp)
    if (rows < 0).any():
        strangers = sorted({ids[place] for place in np.flatnonzero(rows < 0).tolist()})
        first = int(np.flatnonzero(rows < 0)[0])
        raise BadData(
            f"{path}, line {lines[first]}: {ids[first]!r} is no test image of {test.card.name} "
            f"({counted(len(strangers), 'such id')}); its ids are like {next(iter(known))!r}"
        )
    return rows


def check_complete(
    path: Path, given: NDArray[np.bool_], test: Dataset, findings: Sequence[str]
) -> None:
    """BadData unless every finding (K) of every test image (N) is given (N, K)."""
    if given.all():
        return
    row, place = np.argwhere(~given)[0]
    raise BadData(
        f"{path} has no prediction of {findings[place]!r} for image "
        f"{test.table['id'].iloc[row]!r}; {int((~given).sum())} of {given.size} predictions are "
        "missing. Scores of a part of the test images are not comparable"
    )
