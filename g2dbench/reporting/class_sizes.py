"""Patients with and without each finding in stored predictions."""

import numpy as np
import pandas as pd

from g2dbench.data.annotations import rle

FEW_MEMBERS = 10
"""With fewer patients in a class, a score hangs on single patients."""


def class_sizes(predictions: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Finding -> number of patients with it, and of patients with an image without it.

    A patient can count in both. Findings without a known truth are left out; the result is empty
    for predictions without ground truth in them, such as those of retrieval.
    """
    if not {"patient", "finding", "truth"} <= set(predictions.columns):
        return {}
    known = predictions[predictions["truth"].notna()]
    height = known.get("height", pd.Series(0, known.index))
    width = known.get("width", pd.Series(0, known.index))
    present = np.array([
        is_present(truth, (int(size[0]), int(size[1])))
        for truth, *size in zip(known["truth"], height, width, strict=True)
    ], dtype=object)  # fmt: skip
    found = {}
    for finding, rows in known.assign(present=present).groupby("finding", sort=True):
        kinds = [rows.loc[rows["present"] == kind, "patient"].nunique() for kind in (True, False)]
        found[str(finding)] = (int(kinds[0]), int(kinds[1]))
    return found


def is_present(truth: object, size: tuple[int, int]) -> bool | None:
    """Whether a stored truth shows the finding: a label, run lengths of a mask, or boxes."""
    if isinstance(truth, str):
        return rle.area(truth, size) > 0
    if isinstance(truth, list | tuple | np.ndarray):
        return len(truth) > 0
    label = float(truth)  # type: ignore[arg-type]
    return None if label not in (0, 1) else label == 1


def small_classes(predictions: pd.DataFrame, masks_or_boxes: bool) -> list[str]:
    """Findings with too few patients, such as "nodule (4 with it)".

    Findings without any patient in a class have no score and do not count. masks_or_boxes: lesions
    are located, so that images without the finding need not be many.
    """
    found = []
    for finding, (present, absent) in class_sizes(predictions).items():
        if 0 < present < FEW_MEMBERS:
            found.append(f"{finding} ({present} with it)")
        elif 0 < absent < FEW_MEMBERS and not masks_or_boxes:
            found.append(f"{finding} ({absent} without it)")
    return found
