"""How far a training is, its log, and how it is interrupted."""

import csv
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from safetensors import SafetensorError

from g2dbench.errors import G2DBenchError
from g2dbench.results import replace_file

Row = dict[str, float]

REPEAT = 2.0
"""Seconds within which a second Ctrl-C or SIGTERM is taken for an echo of the first."""


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


class Log:
    """log.csv: a row per epoch; columns may join in later epochs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []

    def restore(self, rows: list[Row]) -> None:
        """Take up the rows that a checkpoint holds, whatever became of the file since."""
        self.rows = [dict(row) for row in rows]

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row, as plain numbers that a checkpoint can hold, and write the file anew."""
        plain = {k: v if isinstance(v, int) else float(v) for k, v in row.items()}
        self.rows.append(plain)
        replace_file(self._path, self._write)

    def _write(self, path: Path) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)


class Interrupts(AbstractContextManager["Interrupts"]):
    """Ctrl-C and SIGTERM as a wish that the loop grants after its step; twice means at once.

    A repetition within `REPEAT` seconds is the same wish: a terminal and torchrun, or a cluster
    and torchrun, both pass one on. Outside the main thread, where Python allows no handlers,
    signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.asked = False
        self._first = 0.0
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
        now = time.monotonic()
        if not self.asked:
            self.asked, self._first = True, now
        elif now - self._first > REPEAT:
            self._put_back()
            signal.raise_signal(number)

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
