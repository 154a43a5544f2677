"""Safetensors files are written whole, and a killed writer leaves nothing that stays."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from g2dbench.pretrained.tensor_files import save_tensors

KILLED = """
import os, signal, sys
from pathlib import Path
from g2dbench.pretrained import tensor_files

def save_file(tensors, path, metadata):  # as the library when it is killed while it writes
    (Path(path).parent / ".tmpAbCdEf").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

tensor_files.save_file = save_file
tensor_files.save_tensors(Path(sys.argv[1]), {})
"""


def test_tensors_and_facts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    old = os.umask(0o027)
    try:
        save_tensors(path, {"weight": torch.arange(6.0).view(2, 3)}, {"kind": "test"})
    finally:
        os.umask(old)
    assert torch.equal(load_file(path)["weight"], torch.arange(6.0).view(2, 3))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob(".tmpAbCdEf"))
    save_tensors(path, {"weight": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_neither_file_nor_folder(tmp_path: Path) -> None:
    tensor = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save_tensors(tmp_path / "a.safetensors", {"one": tensor, "two": tensor})
    assert list(tmp_path.iterdir()) == []
