"""One process of a small training that torchrun starts, and restarts after a loss.

    torchrun --nproc_per_node=2 --max-restarts=4 elastic_worker.py OUT [KILL_AT]

The second process is killed at step KILL_AT of the first start, as if its machine failed. The first
one does it, because it alone shows a progress.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from g2dbench.recipes.recipe import override
from g2dbench.runs.checkpoints import CheckpointPolicy
from support import small_training as fits

PAIRS, STEPS_BETWEEN_CHECKPOINTS = 34, 3


def main(out: Path, kill_at: int | None) -> None:
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    second = out.with_suffix(".pid")
    if os.environ["RANK"] == "1":
        second.write_text(str(os.getpid()))

    def progress(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
        for batch in items:
            if restarts == 0 and batch.step == kill_at:
                os.kill(int(second.read_text()), signal.SIGKILL)
            yield batch

    torch.set_num_threads(1)
    fits.fit(
        out,
        fits.some(PAIRS),
        recipe=override(fits.recipe(), ["optim.batch_size=4"]),
        resume=restarts > 0,
        progress=progress,
        checkpointing=CheckpointPolicy(steps=STEPS_BETWEEN_CHECKPOINTS),
        echo=lambda line: print(f"start {restarts}: {line}", flush=True),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
