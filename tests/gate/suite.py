"""The fixed suite of the project's own regression gate: `python suite.py OUT STORE`.

Every task on 240 synthetic radiographs at 64 px, with an untrained model and with a G2D of two
epochs. The committed results in `baseline/` were made by `make baseline`; `test_gate.py` runs the
suite again.
"""

import sys
from pathlib import Path

from g2dbench.cli import app

DATA = ["--data", "synthetic:240"]


def run(out: Path, store: Path, work: Path) -> None:
    """Train (unless `work` holds the run), evaluate, write the results to `out`."""
    trained = work / "g2d"
    if not trained.exists():
        changes = ["data.size=64", "optim.batch_size=16", "model.pixel.start=0"]
        sets = [word for change in changes for word in ("--set", change)]
        g2dbench("pretrain", *DATA, "--epochs", 2, "--store", store, "--out", trained, *sets)
    models = ["--model", trained, "--model", "random-init"]
    common = [*DATA, "--size", 64, "--store", store, "--out", out, *models]
    g2dbench("eval", *common, "--task", "cls", "--task", "zeroshot", "--task", "ground")
    g2dbench("eval", *common, "--task", "seg", "--protocol", "small", "--fraction", 0.3)


def g2dbench(*words: object) -> None:
    """Run one command in this process, on the CPU in fp32; a failure ends the suite."""
    command = [str(word) for word in words]
    app([*command, "--device", "cpu", "--precision", "fp32"], standalone_mode=False)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[2]))
