"""Trainings in processes of their own, for the tests that kill them or start several at once.

They are forked from one server that has imported everything, so that each costs little.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from g2dbench.progress import quiet
from g2dbench.recipes.recipe import Recipe
from g2dbench.runs.checkpoints import CheckpointPolicy
from g2dbench.runs.folder import CHECKPOINTS
from g2dbench.training import fit as train
from g2dbench.training.batches import pair_loader
from support import small_training as fits

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["g2dbench.training.fit", "g2dbench.methods.g2d", "pytest"])

EPOCHS, STEPS = 5, 12


def recipe() -> Any:
    changed = fits.recipe().model_dump()
    changed["optim"]["epochs"] = EPOCHS
    return Recipe.model_validate(changed)


def train_toy(out: Path, beat: Connection | None, resume: bool) -> None:
    """60 steps with two workers, a checkpoint every second step, and a message per step."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of the workers, as it usually is
    pair_loader.CACHE_BYTES = 0  # as if the images did not fit in memory
    fits.fit(
        out,
        fits.some(8 * STEPS),
        recipe=recipe(),
        resume=resume,
        checkpointing=CheckpointPolicy(steps=2),
        workers=2,
        progress=quiet if beat is None else beating(beat),
    )


def beating(beat: Connection) -> Callable[..., Iterator[Any]]:
    def progress(items: Any, title: str, total: int | None = None) -> Iterator[Any]:
        for batch in items:
            beat.send_bytes(str(batch.step).encode())
            yield batch

    return progress


def run(target: Callable[..., None], *args: Any) -> Any:
    """A started process."""
    process = FORKS.Process(target=target, args=args)
    process.start()
    return process


def enter(rank: int, world: int, port: int) -> None:
    """What torchrun tells a process."""
    torch.set_num_threads(1)
    for name in ("RANK", "LOCAL_RANK"):
        os.environ[name] = str(rank)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        os.environ[name] = str(world)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")


def newest(out: Path) -> Path:
    return max((out / CHECKPOINTS).glob("step-*.pt"))


__all__ = ["enter", "newest", "run", "train", "train_toy"]
