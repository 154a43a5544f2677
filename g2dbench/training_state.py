"""What a training keeps on disk while it runs, and how it is interrupted.

A checkpoint holds tensors, numbers and text only, so that `torch.load(weights_only=True)` opens it.
It replaces the one before when it is whole: a full disk or a killed process costs the time since
then, never the run.
"""

import csv
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from safetensors import SafetensorError

from g2dbench.errors import BadCheckpoint, G2DBenchError
from g2dbench.results import replace_file

VERSION = 1
Row = dict[str, float]


class Stopped(G2DBenchError):
    """Training was interrupted, or cannot go on; the message says how to go on."""


@dataclass
class State:
    """How far a training is: full epochs, batches of the epoch after them, its losses so far."""

    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """One more batch with these losses."""
        self.batch += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def close(self) -> Row:
        """End the epoch: the mean of each loss over the batches that had it."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.epoch, self.batch, self.sums, self.counts = self.epoch + 1, 0, {}, {}
        return means


def save(path: Path, state: State, parts: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; parts: the state_dicts of all that learns."""
    kept = {"version": VERSION, **vars(state), **parts}
    replace_file(path, lambda temporary: torch.save(kept, temporary))


def restore(path: Path) -> tuple[State, dict[str, Any]]:
    """State and parts of a checkpoint; BadCheckpoint where it is broken."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        if kept.pop("version") != VERSION:
            raise BadCheckpoint(f"{path} was written by another version of g2dbench")
        state = State(**{name: kept.pop(name) for name in vars(State())})
    except BadCheckpoint:
        raise
    except Exception as error:  # a damaged file fails in many ways, each of which means the same
        raise BadCheckpoint(
            f"{path} cannot be resumed from, it is broken ({error}): start anew with another --out"
        ) from error
    return state, kept


class Log:
    """log.csv: a row per epoch; columns may join in later epochs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []

    def restore(self, epochs: int) -> None:
        """Take up the rows of the first `epochs` epochs; those that were lost are trained again."""
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = [dict(row) for row in csv.DictReader(file)]
            self.rows = [row for row in rows if int(row["epoch"]) <= epochs]

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row and write the file anew."""
        self.rows.append(dict(row))
        replace_file(self._path, self._write)

    def _write(self, path: Path) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)


class Interrupts(AbstractContextManager["Interrupts"]):
    """Ctrl-C and SIGTERM as a wish that the loop grants after its step; twice means at once.

    Outside the main thread, where Python allows no handlers, signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def write(folder: Path, what: str, action: Callable[[], object]) -> None:
    """Run an action that writes; Stopped, with what is still there, where the disk refuses."""
    try:
        action()
    except (OSError, RuntimeError, SafetensorError) as error:
        raise Stopped(
            f"{what} of the run in {folder} cannot be written ({error}); what was saved before is "
            f"whole: make room, then go on with {again(folder)}"
        ) from error


def again(folder: Path) -> str:
    """How to go on with a run."""
    return f"--resume --out {folder} and the options that the run began with"
