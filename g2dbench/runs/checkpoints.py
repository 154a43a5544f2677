"""The checkpoints of a run: when they are written, how many are kept, which one is still whole.

    checkpoints/step-000001200-0123456789abcdef.pt     after 1200 optimiser steps

The end of a name is the start of the file's SHA-256, as torch.hub names its weights, so that name
and content appear in one rename and a damaged file shows. A checkpoint holds tensors, numbers and
text only: `torch.load(weights_only=True)` opens it.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.runs.state import State
from g2dbench.system.files import file_digest, sync_folder

VERSION = 2
_NAME = re.compile(r"step-(\d{9,})-([0-9a-f]{16})\.pt")
_PARTIAL, _BROKEN = "partial", ".broken"
_EVERY = re.compile(r"(\d+)([smh]?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Saving:
    """When to write a checkpoint besides the ends of epochs, and how many to keep.

    steps: every so many optimiser steps; seconds: as soon as so many have passed. 0 is never.
    """

    steps: int = 0
    seconds: int = 0
    keep: int = 2

    def due(self, step: int, seconds: float) -> bool:
        """Whether one is due after this step, so many seconds after the last one."""
        by_step = self.steps > 0 and step % self.steps == 0
        return by_step or 0 < self.seconds <= seconds


def parse_every(text: str | None, keep: int) -> Saving:
    """`--save-every`: "500" is steps; "90s", "15m", "2h" is time; None is each epoch's end only."""
    if text is None:
        return Saving(keep=keep)
    found = _EVERY.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise Misuse(f"--save-every {text!r} is neither steps (500) nor a time (90s, 15m, 2h)")
    number, unit = int(found[1]), found[2]
    return Saving(seconds=number * _SECONDS[unit], keep=keep) if unit else Saving(number, 0, keep)


class Checkpoints:
    """A run's folder of checkpoints."""

    def __init__(self, folder: Path, saving: Saving) -> None:
        self.folder, self._saving = folder, saving
        self._saved = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to write one after this step."""
        return self._saving.due(step, time.monotonic() - self._saved)

    def save(self, step: int, state: State, parts: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, then drop the oldest beyond `keep`.

        parts: the state_dicts of all that learns. The disk must hold `keep` + 1 of them.
        """
        self.folder.mkdir(exist_ok=True)
        partial = self.folder / _PARTIAL
        try:
            with partial.open("wb") as file:
                torch.save({"version": VERSION, **vars(state), **parts}, file)
                file.flush()
                os.fsync(file.fileno())
            digest = file_digest(partial)[:16]
            partial.replace(self.folder / f"step-{step:09d}-{digest}.pt")
            sync_folder(self.folder)
        finally:
            partial.unlink(missing_ok=True)
        for old in self._all()[self._saving.keep :]:
            old.unlink()
        self._saved = time.monotonic()

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest whole checkpoint, and a warning for each newer one, which is set aside.

        None where none was written yet. Raises BadCheckpoint where all are broken.
        """
        found = self._all()
        faults: dict[Path, str] = {}
        for path in found:
            if not (fault := _fault(path)):
                return path, [_passed_over(broken, why, path) for broken, why in faults.items()]
            faults[path] = fault
        if found:
            listed = "; ".join(f"{path.name} {fault}" for path, fault in faults.items())
            raise BadCheckpoint(
                f"no checkpoint in {self.folder} can be resumed from, all are broken ({listed}): "
                "start anew with another --out"
            )
        return None, []

    def _all(self) -> list[Path]:
        """Checkpoints, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else iter(())
        return sorted((p for p in found if _NAME.fullmatch(p.name)), key=_step, reverse=True)


def restore(path: Path) -> tuple[State, dict[str, Any]]:
    """State and parts of a checkpoint; BadCheckpoint where it is broken."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        if kept.pop("version") != VERSION:
            raise BadCheckpoint(f"{path} was written by another version of g2dbench")
        state = State(**{name: kept.pop(name) for name in vars(State())})
    except BadCheckpoint:
        raise
    except Exception as error:  # a strange file fails in many ways, each of which means the same
        raise BadCheckpoint(
            f"{path} cannot be resumed from, it is broken ({error}): start anew with another --out"
        ) from error
    return state, kept


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _fault(path: Path) -> str:
    """What is wrong with a checkpoint's bytes; empty where nothing is."""
    try:
        digest = file_digest(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    right = digest.startswith(path.stem.rpartition("-")[2])
    return "" if right else f"has the checksum {digest[:16]}"


def _passed_over(broken: Path, fault: str, instead: Path) -> str:
    """Out of the way, so that it never counts as one of those that are kept."""
    broken.rename(broken.with_suffix(_BROKEN))
    return (
        f"{broken} is broken ({fault}) and was set aside as {broken.stem}{_BROKEN}: going on from "
        f"{instead.name}"
    )
