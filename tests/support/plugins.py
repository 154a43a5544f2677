"""A model and a task in files of their own, which tests edit."""

from pathlib import Path

MODEL = '''"""Mean brightness of a grid."""

from torch.nn import functional as F

from g2dbench import Identity, Model, ModelCard, Preprocess

CARD = ModelCard(
    name="lamp", summary="mean brightness", paper="none", source="a test", licence="none",
    capabilities=("features",), needs_weights=False, source_kind="",
)


class Lamp(Model):
    card = CARD
    preprocess = Preprocess(size=32, channels=1, mean=(0.5,), std=(0.25,))
    identity = Identity("lamp", "a digest that the file claims")
    channels, strides, fixed_size = (1,), (8,), False

    def features(self, images):
        """The map."""
        return [F.avg_pool2d(images, 8)]

    def pooled(self, images):
        return self.features(images)[0].flatten(1)


def load(source, seed):
    return Lamp()
'''

TASK = '''"""Mean of the pooled features."""

from dataclasses import dataclass

import pandas as pd
import torch

from g2dbench import Score, TaskCard

CARD = TaskCard(
    name="glow", summary="mean feature", needs=("features",), annotations=("labels",),
    protocols=("plain",), metric="glow", source="a test", fits=False,
)


@dataclass(frozen=True)
class Settings:
    times: float = 1.0


PROTOCOLS = {"plain": Settings()}


def predict(model, run):
    rows = []
    for sample in run.test:
        with torch.no_grad(), run.autocast():
            value = model.pooled(model.preprocess(sample.image)[None]).mean()
        rows.append((sample.id, sample.patient, float(value)))
    return pd.DataFrame(rows, columns=["id", "patient", "score"])


def score(predictions, protocol):
    value = predictions["score"].mean() * protocol.times
    return {"glow": Score(value=float(value), n=len(predictions))}
'''


def write(folder: Path) -> tuple[Path, Path]:
    """`lamp.py` and `glow.py` in a folder."""
    files = folder / "lamp.py", folder / "glow.py"
    for file, text in zip(files, (MODEL, TASK), strict=True):
        file.write_text(text)
    return files


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
