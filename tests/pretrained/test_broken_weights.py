"""A broken file and a file of another format give one clear error that names the file."""

import argparse
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from support.models.weights_files import FORMATS, Tiny, save
from torch import nn

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.weights import (
    find_state,
    read_weights,
)


def broken_files(folder: Path) -> dict[str, Path]:
    good = save(Tiny().state_dict(), folder / "good.pt").read_bytes()
    old = save(Tiny().state_dict(), folder / "old.pt", zipped=False).read_bytes()
    safetensors.torch.save_file({"w": torch.zeros(64)}, folder / "good.safetensors")
    safe = (folder / "good.safetensors").read_bytes()
    contents = {
        "empty.pt": b"",
        "empty.safetensors": b"",
        "text.pth": b"hello, these are not weights\n" * 40,
        "noise.ckpt": np.random.default_rng(0).bytes(5000),
        "half.pt": good[: len(good) // 2],
        "almost.pt": good[:-7],
        "half_old.pt": old[: len(old) // 2],
        "half.safetensors": safe[: len(safe) // 2],
        "long.safetensors": (2**62).to_bytes(8, "little") + b"{}",
        "noise.safetensors": np.random.default_rng(1).bytes(500),
        "web.pt": b"\n<!DOCTYPE html><html>Google Drive - Virus scan warning</html>",
        "lfs.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "array.pt": b"\x93NUMPY\x01\x00",
        "zipped.pt.gz": b"\x1f\x8b\x08" + bytes(50),
        "string_bomb.pt": b"\x80\x04\x8d" + (2**60).to_bytes(8, "little"),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with tarfile.open(folder / "archive.tar", "w") as tar:
        tar.add(folder / "good.pt", "good.pt")
    torch.jit.script(nn.Linear(2, 2)).save(folder / "program.pt")
    with (folder / "huge.pt").open("wb") as sparse:
        sparse.truncate(2**38)
    names = [
        *contents,
        "photos.zip",
        "bomb.pt",
        "archive.tar",
        "program.pt",
        "huge.pt",
        "absent.pt",
    ]
    return {name: folder / name for name in names} | {"folder": folder}


@pytest.mark.filterwarnings("ignore:.*TorchScript")
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_broken_and_foreign_files_are_named_in_one_sentence(tmp_path: Path) -> None:
    for name, file in broken_files(tmp_path).items():
        with pytest.raises(BadCheckpoint) as caught:
            read_weights(file)
        message = str(caught.value)
        assert str(file) in message, name
        assert "\n" not in message, name
        assert "weights_only=False" not in message, name
        assert len(message) < 500 + len(str(tmp_path)), name


@FORMATS
def test_truncation_at_any_length_is_named(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": Tiny().state_dict(), "args": argparse.Namespace(a=1)}
    whole = save(content, tmp_path / "whole.pt", zipped).read_bytes()
    cut = tmp_path / "cut.pt"
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match=r"cut\.pt"):
            find_state(read_weights(cut), cut)


def test_a_tar_that_is_a_torch_file_is_read_by_content(tmp_path: Path) -> None:
    file = save({"model": {"w": torch.ones(1)}}, tmp_path / "r50_m.tar")
    assert find_state(read_weights(file), file)["w"].item() == 1
