"""Result folders for tests of the report and of lists of errors."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from g2dbench.result import PREDICTIONS_FILE, Result, Score, save
from support.reporting.results import result

IMAGES = 40
FINDINGS = ("nodule", "edema")


def decisions(seed: int, skill: float = 0.3, names: tuple[str, ...] = FINDINGS) -> pd.DataFrame:
    """Predictions of findings: a score that is higher for positive images by `skill`."""
    random = np.random.default_rng(seed)
    rows = len(names) * IMAGES
    truth = np.tile([1.0, 0.0, 0.0, 0.0], rows // 4)
    score = np.clip(0.6 * random.random(rows) + skill * truth, 0, 1)
    return pd.DataFrame({
        "id": np.tile([f"i{at}" for at in range(IMAGES)], len(names)),
        "patient": np.tile([f"p{at // 2}" for at in range(IMAGES)], len(names)),
        "finding": np.repeat(names, IMAGES), "truth": truth, "score": score,
        "claim": (score > 0.5).astype(float),
    })  # fmt: skip


def write(
    folder: Path, predictions: pd.DataFrame | None = None, fingerprint: str = "", **changes: object
) -> Result:
    """A done zero-shot result in a folder, with its predictions; fingerprint: of the data set."""
    folder.mkdir(parents=True)
    if predictions is not None:
        path = folder / PREDICTIONS_FILE
        predictions.to_parquet(path)
        changes["predictions"] = hashlib.sha256(path.read_bytes()).hexdigest()
    changes.setdefault("scores", {"auc": Score(value=0.7, low=0.6, high=0.8, n=IMAGES)})
    found = result(**{"task": "zeroshot", "fraction": 0.0, **changes}).model_copy(
        update={"metric": "auc"}
    )
    if fingerprint:
        origin = found.provenance.model_copy(update={"data": fingerprint})
        found = found.model_copy(update={"provenance": origin})
    save(found, folder)
    return found
