"""Finished trainings of the toy method: their working directory, weights and checkpoints."""

from pathlib import Path

import pytest
from torch import Tensor

from g2dbench.runs import folder as runs
from g2dbench.runs.folder import RunFolder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(run: RunFolder) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(run.folder / runs.WEIGHTS_FILE)


def newest(folder: Path) -> Path:
    return max((folder / runs.CHECKPOINTS).glob("step-*.pt"))
