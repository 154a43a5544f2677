"""Finished cells with predictions that a test plants."""

from pathlib import Path

import pandas as pd

from g2dbench.result import PREDICTIONS_FILE, Cell, Provenance, Result, Score, save
from g2dbench.system.files import file_digest


def predictions(
    patients: list[str], finding: str, truth: list[float], score: list[float]
) -> pd.DataFrame:
    """One finding in the columns of zero-shot classification."""
    return pd.DataFrame(
        {
            "id": [f"i{n:05d}" for n in range(len(truth))], "patient": patients,
            "finding": finding, "truth": truth, "score": score,
            "claim": [float(value > 0.5) for value in score],
        }
    )  # fmt: skip


def store_cell(
    folder: Path, table: pd.DataFrame, *, task: str = "zeroshot", data: str = "d" * 8
) -> Path:
    """A finished cell of these predictions; returns its folder."""
    folder.mkdir(parents=True)
    table.to_parquet(folder / PREDICTIONS_FILE)
    cell = Cell(model="toy", task=task, data="toy", protocol="g2d", fraction=0)
    provenance = Provenance(
        version="0", weights="w", data=data, subset="s",
        predictions=file_digest(folder / PREDICTIONS_FILE),
    )  # fmt: skip
    result = Result(
        cell=cell, status="done", metric="auc", scores={"auc": Score(value=0.5)},
        provenance=provenance,
    )  # fmt: skip
    save(result, folder)
    return folder
