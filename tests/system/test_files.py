"""Files that are written whole or not at all: their permissions, and full disks."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from g2dbench.system.files import full_disk, replace_file


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
@pytest.mark.usefixtures("umask")
def test_a_file_has_the_permissions_that_the_umask_leaves(
    tmp_path: Path, mask: int, mode: int
) -> None:
    os.umask(mask)
    writers = {
        "text.json": lambda path: path.write_text("{}"),
        "table.parquet": lambda path: pd.DataFrame({"a": [1]}).to_parquet(path),
        "model.safetensors": lambda path: safetensors.torch.save_file({"w": torch.ones(2)}, path),
        "weights.pth": lambda path: torch.save({"w": torch.ones(2)}, path),
    }
    for name, write in writers.items():
        replace_file(tmp_path / name, write)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode, name


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyError("other")

    with pytest.raises(KeyError):
        replace_file(path, fail)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.json"]
    assert path.read_text() == "before"


BIG = np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8)

WRITERS = {
    "open": lambda path: path.write_bytes(BIG.tobytes()),
    "pandas and pyarrow": lambda path: pd.DataFrame({"a": BIG.ravel()}).to_parquet(path),
    "safetensors": lambda path: safetensors.torch.save_file({"w": torch.from_numpy(BIG)}, path),
    "torch": lambda path: torch.save({"w": torch.from_numpy(BIG)}, path),
    "torch, the older format": lambda path: torch.save(
        {"w": torch.from_numpy(BIG)}, path, _use_new_zipfile_serialization=False
    ),
    "pillow": lambda path: Image.fromarray(BIG).save(path),
}


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may grow over 20 kB: writing more fails as it does on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.usefixtures("no_room")
def test_a_full_disk_is_one_error_whatever_library_writes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.png"
    with pytest.raises(OSError) as caught:
        replace_file(path, WRITERS[name])
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_only_errors_that_say_so_are_a_full_disk() -> None:
    inner = OSError(errno.ENOSPC, "No space left on device")
    outer = RuntimeError("unexpected pos 64 vs 0")
    outer.__context__ = inner
    assert full_disk(outer) == errno.ENOSPC
    assert full_disk(OSError(errno.EDQUOT, "Disk quota exceeded")) == errno.EDQUOT
    told = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert full_disk(ValueError(told)) == errno.ENOSPC
    for other in (FileNotFoundError(2, "No such file"), KeyError("a"), BrokenPipeError(32, "x")):
        assert full_disk(other) is None
