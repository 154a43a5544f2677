"""Tables of predictions: long form, one row per image and finding, and wide form, (N, K) arrays.

Shapes: N images, K findings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from g2dbench.dataset import LABEL_PREFIX, Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.metrics.classification import labeled

KEYS = ("id", "patient", "finding")
"""The first columns of every table in long form."""


def labeled_findings(dataset: Dataset) -> tuple[str, ...]:
    """The findings with a label 1 or 0 in at least one image, in the table's order.

    BadData if there is none.
    """
    columns = [name for name in dataset.table.columns if name.startswith(LABEL_PREFIX)]
    found = [name for name in columns if labeled(dataset.table[name].to_numpy(float)).any()]
    if not found:
        raise BadData(
            f"{dataset.card.name} has no labels 1 or 0 in these {len(dataset)} images: "
            "a classification task needs some"
        )
    return tuple(name.removeprefix(LABEL_PREFIX) for name in found)


def labels(dataset: Dataset, findings: Sequence[str]) -> NDArray[np.float64]:
    """(N, K) labels; NaN for findings that are not in the table."""
    wanted = [LABEL_PREFIX + finding for finding in findings]
    return dataset.table.reindex(columns=wanted).to_numpy(np.float64)


def long_table(
    dataset: Dataset, findings: Sequence[str], **columns: NDArray[np.generic]
) -> pd.DataFrame:
    """Predictions in long form; each column is given as (N, K), or broadcasts to it."""
    shape = (len(dataset), len(findings))
    table = {
        "id": np.repeat(dataset.table["id"].to_numpy(object), len(findings)),
        "patient": np.repeat(dataset.table["patient"].to_numpy(object), len(findings)),
        "finding": np.tile(np.array(findings, object), len(dataset)),
    }
    for name, values in columns.items():
        table[name] = np.broadcast_to(values, shape).reshape(-1)
    return pd.DataFrame(table)


@dataclass(frozen=True)
class WideTable:
    """Predictions in wide form: patients (N,), columns of (N, K) numbers, and ids (N,) of images.

    Images and findings are sorted by name, so that no score depends on the order of rows.
    """

    patients: NDArray[np.object_]
    findings: tuple[str, ...]
    columns: Mapping[str, NDArray[np.float64]]
    ids: NDArray[np.object_]

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        return self.columns[column]


def to_wide(predictions: pd.DataFrame, columns: Sequence[str]) -> WideTable:
    """Long form to wide form; NaN where an image has no row for a finding.

    BadResult for a missing column, a duplicate row, an image of two patients or of none.
    """
    check_columns(predictions, (*KEYS, *columns))
    check_patients(predictions)
    duplicated = predictions.duplicated(["id", "finding"])
    if duplicated.any():
        row = predictions[duplicated].iloc[0]
        raise BadResult(f"the predictions hold {row['finding']!r} of image {row['id']!r} twice")
    image_patients = predictions[["id", "patient"]].drop_duplicates().sort_values("id")
    if image_patients["id"].duplicated().any():
        image = image_patients["id"][image_patients["id"].duplicated()].iloc[0]
        raise BadResult(f"the predictions give image {image!r} to two patients")
    frames = {
        name: predictions.pivot(index="id", columns="finding", values=name) for name in columns
    }
    findings = tuple(sorted(predictions["finding"].unique()))
    return WideTable(
        image_patients["patient"].to_numpy(object),
        findings,
        {name: frame.to_numpy(np.float64) for name, frame in frames.items()},
        image_patients["id"].to_numpy(object),
    )


def check_patients(predictions: pd.DataFrame) -> None:
    """Raise BadResult that names the images whose patient is missing."""
    missing = predictions["id"][predictions["patient"].isna()].drop_duplicates()
    if len(missing):
        named = ", ".join(repr(name) for name in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise BadResult(
            f"the predictions cannot be scored: image {named}{more} has no patient, and confidence "
            "intervals are over patients; give such an image a patient of its own"
        )


def check_columns(predictions: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise BadResult if stored predictions lack a column or have no rows."""
    missing = [name for name in columns if name not in predictions.columns]
    if missing or predictions.empty:
        raise BadResult(
            f"the predictions cannot be scored: they have {len(predictions)} rows and lack "
            f"the columns {missing or 'none'}"
        )
