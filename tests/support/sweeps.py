"""A small plan for the engines of sweeps: plug-ins that count what they compute, and die if told.

The model writes a line per encoded image to `images.log`, the task a line per prediction to
`cells.log`. A cell whose seed S has a file `kill-S` in the folder removes the file and kills its
process; while there is a file `wait-S`, it waits, with a line in `waiting.log`.
"""

import hashlib
from collections import Counter
from pathlib import Path

from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.sweep.engine import Ended, Engine, Event
from g2dbench.evaluation.sweep.grid import Grid
from g2dbench.evaluation.sweep.job import JobSettings
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.result import PREDICTIONS_FILE, load, result_files
from g2dbench.system.machine import FeatureFolder, MachineRequest

MODEL = '''"""Mean brightness of a grid; counts images."""

from torch.nn import functional as F

from g2dbench import Identity, Model, ModelCard, Preprocess

CARD = ModelCard(
    name="{name}", summary="mean brightness", paper="none", source="a test", licence="none",
    capabilities=("features",), needs_weights=True, source_kind="file",
)


class Lamp(Model):
    card = CARD
    preprocess = Preprocess(size=32, channels=1, mean=(0.5,), std=(0.25,))
    identity = Identity("{name}", "")
    channels, strides, fixed_size = (1,), (8,), False

    def features(self, images):
        with open(r"{folder}/images.log", "a") as log:
            log.write("{name} image\\n" * len(images))
        return [F.avg_pool2d(images, 8) * {times}]

    def pooled(self, images):
        return self.features(images)[0].flatten(1)


def load(source, seed):
    {loading}
    return Lamp()
'''

TASK = '''"""A random projection of pooled features, standardized by the training images."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from g2dbench import Score, TaskCard
from g2dbench.evaluation.frozen_features import pooled_features

CARD = TaskCard(
    name="probe", summary="projection", needs=("features",), annotations=("labels",),
    protocols=("plain", "broken"), metric="probe", source="a test",
)
FOLDER = Path(r"{folder}")


@dataclass(frozen=True)
class Settings:
    fails: bool = False


PROTOCOLS = {{"plain": Settings(), "broken": Settings(fails=True)}}


def predict(model, run):
    if run.protocol.fails:
        raise ValueError("this protocol fails")
    train = pooled_features(model, run.train, run, "train")
    kill = FOLDER / f"kill-{{run.seed}}"
    if kill.exists():
        kill.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if (FOLDER / f"wait-{{run.seed}}").exists():
        with open(FOLDER / "waiting.log", "a") as log:
            log.write("waiting\\n")
    while (FOLDER / f"wait-{{run.seed}}").exists():
        time.sleep(0.05)
    test = pooled_features(model, run.test, run, "test")
    weights = torch.randn(test.shape[1], generator=run.generator(1))
    scores = ((test - train.mean(0)) / (train.std(0) + 1e-3)) @ weights
    with open(FOLDER / "cells.log", "a") as log:
        log.write(f"{{model.card.name}} {{run.fraction}} {{run.seed}}\\n")
    table = run.test.table
    return pd.DataFrame(
        {{"id": table["id"], "patient": table["patient"], "score": scores.double().numpy()}}
    )


def score(predictions, protocol):
    return {{"probe": Score(value=float(predictions["score"].mean()), n=len(predictions))}}
'''


class SmallSweep:
    """Two models that work and one that cannot be loaded, a task, and a folder of results."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        self.plugins = tuple(self._write(folder))
        self.bench = Workbench(Registry(self.plugins))

    def _write(self, folder: Path) -> list[Path]:
        models = {"lamp": (1, "pass"), "torch": (2, "pass"), "dark": (1, "raise OSError('gone')")}
        files = []
        for name, (times, loading) in models.items():
            files.append(folder / f"{name}_model.py")
            files[-1].write_text(
                MODEL.format(name=name, folder=folder, times=times, loading=loading)
            )
        files.append(folder / "probe_task.py")
        files[-1].write_text(TASK.format(folder=folder))
        return files

    def cells(
        self, *models: str, seeds: int = 3, protocol: str = "plain", fractions: tuple = (0.5, 1.0)
    ) -> list[CellSpec]:
        grid = Grid(
            models=models or ("lamp:x", "torch:x"), datasets=["synthetic:120"], tasks=["probe"],
            fractions=fractions, seeds=range(seeds), protocol=protocol, store=self.store, size=64,
            plugins=self.plugins,
        )  # fmt: skip
        return grid.cells(self.bench)

    def settings(
        self, name: str = "results", device: str = "cpu", remote: str | None = None
    ) -> JobSettings:
        """Settings with a results folder and a feature cache of their own."""
        features = FeatureFolder(self.folder / f"{name}-features")
        machine = MachineRequest(device=device, precision="fp32", features=features)
        return JobSettings(machine=machine, out=self.folder / name, remote=remote)

    def log(self, name: str) -> Counter[str]:
        """The lines of a log with their counts."""
        path = self.folder / f"{name}.log"
        return Counter(path.read_text().splitlines() if path.exists() else ())

    def clear_logs(self) -> None:
        for name in ("images", "cells"):
            (self.folder / f"{name}.log").unlink(missing_ok=True)


def run(engine: Engine, cells: list[CellSpec]) -> tuple[dict[CellSpec, Outcome], list[Event]]:
    """The outcome of each cell, each of which ended once, and all events."""
    events = list(engine.run(cells))
    ended = [event for event in events if isinstance(event, Ended)]
    assert Counter(event.spec for event in ended) == Counter(cells)
    return {event.spec: event.outcome for event in ended}, events


def stored(out: Path) -> dict[str, tuple[str, str]]:
    """Folder of each cell -> digest of the predictions' bytes, and the scores as JSON."""
    found = {}
    for path in result_files(out):
        result, folder = load(path), path.parent
        assert result.status == "done"
        data = (folder / PREDICTIONS_FILE).read_bytes()
        scores = str({name: score.model_dump() for name, score in result.scores.items()})
        found[str(folder.relative_to(out))] = (hashlib.sha256(data).hexdigest(), scores)
    return found


def partial_folders(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*.partial") if any(path.iterdir())]
