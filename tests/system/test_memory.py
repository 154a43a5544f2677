"""Memory that ran out is a sentence with a way out, not a traceback."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import typer

from g2dbench.cli.app import guarded
from g2dbench.system.memory import bounded_memory, out_of_memory


@pytest.mark.parametrize(
    "take", [lambda: torch.ones(2**34), lambda: np.ones(2**34), lambda: bytearray(2**36)]
)
def test_what_libraries_raise_is_recognized_and_told(take, capsys: pytest.CaptureFixture) -> None:
    def run() -> None:
        with bounded_memory(1 << 28):
            take()

    with pytest.raises((MemoryError, RuntimeError)) as caught:
        run()
    assert out_of_memory(caught.value)
    with pytest.raises(typer.Exit) as ended:
        guarded(run)
    assert ended.value.exit_code == 1
    assert "--batch-size" in capsys.readouterr().err
    torch.ones(2**20)


def test_other_errors_are_not(capsys: pytest.CaptureFixture) -> None:
    assert not out_of_memory(RuntimeError("shapes differ"))
    assert not out_of_memory(KeyError("can't allocate memory"))
    with pytest.raises(KeyError):
        guarded(lambda: {}["a"])


def test_workers_are_bounded_with_a_note() -> None:
    words = ["-m", "g2dbench", "data", "prepare", "rsna", "--root", "/none", "--workers", "100000"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert "note: --workers 100000: on this machine" in done.stderr
    assert done.returncode == 1
