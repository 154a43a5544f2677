"""The checkpoints of a run: when they are written, how many are kept, which one is intact.

    checkpoints/step-000001200-0123456789abcdef.pt     after 1200 optimizer steps

A name ends with the start of the file's SHA-256, as in torch.hub, so that a damaged file is
recognized. A checkpoint holds only tensors, numbers and text: `torch.load(weights_only=True)`
opens it.
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
from g2dbench.runs.state import TrainingState
from g2dbench.system.files import file_digest, sync_folder

VERSION = 2
_NAME = re.compile(r"step-(\d{9,})-([0-9a-f]{16})\.pt")
_PARTIAL, _BROKEN = "partial", ".broken"
_SAVE_EVERY = re.compile(r"(\d+)([smh]?)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class CheckpointPolicy:
    """When to write a checkpoint besides the end of each epoch, and how many to keep.

    steps: after this many optimizer steps; seconds: after this much time; 0 is never.
    """

    steps: int = 0
    seconds: int = 0
    keep: int = 2

    def due(self, step: int, seconds: float) -> bool:
        """Whether a checkpoint is due after this step, `seconds` after the last checkpoint."""
        by_step = self.steps > 0 and step % self.steps == 0
        return by_step or 0 < self.seconds <= seconds


def parse_save_every(text: str | None, keep: int) -> CheckpointPolicy:
    """Parse `--save-every`: "500" is steps; "90s", "15m", "2h" is time; None: epoch ends only."""
    if text is None:
        return CheckpointPolicy(keep=keep)
    found = _SAVE_EVERY.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise Misuse(f"--save-every {text!r} is neither steps (500) nor a time (90s, 15m, 2h)")
    number, unit = int(found[1]), found[2]
    return (
        CheckpointPolicy(seconds=number * _SECONDS[unit], keep=keep)
        if unit
        else CheckpointPolicy(number, 0, keep)
    )


class Checkpoints:
    """The checkpoint folder of a run."""

    def __init__(self, folder: Path, saving: CheckpointPolicy) -> None:
        self.folder, self._policy = folder, saving
        self._saved = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to write a checkpoint after this step."""
        return self._policy.due(step, time.monotonic() - self._saved)

    def save(self, step: int, state: TrainingState, parts: Mapping[str, Any]) -> None:
        """Write a checkpoint atomically, then delete the oldest beyond `keep`.

        parts: state_dicts and logs. The disk must hold `keep` + 1 checkpoints.
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
        for old in self._all()[self._policy.keep :]:
            old.unlink()
        self._saved = time.monotonic()

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest intact checkpoint, and a warning for each newer one, which is set aside.

        None if none was written yet. Raises BadCheckpoint if all are damaged.
        """
        found = self._all()
        faults: dict[Path, str] = {}
        for path in found:
            if not (fault := _fault(path)):
                return path, [_set_aside(broken, why, path) for broken, why in faults.items()]
            faults[path] = fault
        if found:
            listed = "; ".join(f"{path.name} {fault}" for path, fault in faults.items())
            raise BadCheckpoint(
                f"no checkpoint in {self.folder} can be resumed from, all are broken ({listed}): "
                "start again with another --out"
            )
        return None, []

    def _all(self) -> list[Path]:
        """Checkpoints, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else iter(())
        return sorted((p for p in found if _NAME.fullmatch(p.name)), key=_step, reverse=True)


def read_checkpoint(path: Path) -> tuple[TrainingState, dict[str, Any]]:
    """State and parts of a checkpoint; raises BadCheckpoint if it is damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("version") != VERSION:
            raise BadCheckpoint(f"{path} was written by another version of g2dbench")
        state = TrainingState(**{name: content.pop(name) for name in vars(TrainingState())})
    except BadCheckpoint:
        raise
    except Exception as error:  # a damaged file can raise almost anything
        raise BadCheckpoint(
            f"{path} cannot be resumed from, it is broken ({error}): start again with another --out"
        ) from error
    return state, content


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _fault(path: Path) -> str:
    """What is wrong with the bytes of a checkpoint; empty if nothing is."""
    try:
        digest = file_digest(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    right = digest.startswith(path.stem.rpartition("-")[2])
    return "" if right else f"has the checksum {digest[:16]}"


def _set_aside(broken: Path, fault: str, instead: Path) -> str:
    """Rename a damaged checkpoint, so that it does not count as one to keep; returns a warning."""
    broken.rename(broken.with_suffix(_BROKEN))
    return (
        f"{broken} is broken ({fault}) and was set aside as {broken.stem}{_BROKEN}: continuing "
        f"from {instead.name}"
    )
