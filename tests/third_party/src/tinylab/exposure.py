"""A task in one file: how well the pooled features tell bright films from dark ones."""

from dataclasses import dataclass

import pandas as pd
import torch

from g2dbench import Score, TaskCard

CARD = TaskCard(
    name="exposure",
    summary="Rank correlation of the first feature with the film's mean brightness.",
    needs=("features",),
    annotations=("labels", "reports"),
    protocols=("plain",),
    metric="spearman",
    source="tests/third_party",
    fits=False,
)


@dataclass(frozen=True)
class Settings:
    method: str = "spearman"


PROTOCOLS = {"plain": Settings()}


def predict(model, run):
    rows = []
    for sample in run.test:
        with torch.no_grad():
            value = model.pooled(model.preprocess(sample.image)[None].to(run.device)).mean()
        rows.append((sample.id, sample.patient, float(value), float(sample.image.mean())))
    return pd.DataFrame(rows, columns=["id", "patient", "score", "truth"])


def score(predictions, protocol):
    value = predictions["score"].corr(predictions["truth"], method=protocol.method)
    return {"spearman": Score(value=float(value), n=len(predictions))}
