"""The cache of features on disk: exact, safe with several writers, limited in size."""

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy
from torch import Tensor, nn
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.evaluation import feature_cache
from g2dbench.evaluation.frozen_features import (
    EncodedDataset,
    FrozenEncoder,
    PyramidCache,
    encode_dataset,
)
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder

CARD = toy.card("toy", "labels", "a")


class Net(Model):
    """A convolution and its mean; counts the images that it encodes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=32)
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.images = 0

    def maps(self, images: Tensor) -> list[Tensor]:
        self.images += len(images)
        deep = self.conv(images)
        return [deep, deep.mean((2, 3))]

    def pooled(self, images: Tensor) -> Tensor:
        return self.maps(images)[1]


def images(count: int) -> MemoryDataset:
    noise = np.random.default_rng(0)
    samples = [
        Sample(
            id=f"i{n:03d}",
            patient=f"p{n}",
            image=noise.integers(0, 255, (40, 40), np.uint8),
            labels={"a": n % 2},
        )
        for n in range(count)
    ]
    return MemoryDataset(samples, CARD, 40, "fingerprint")


def cached_run(data: MemoryDataset, folder: Path, limit: int = 10**9) -> object:
    run = toy.run_with(train=data, valid=data, test=data, protocol=None)
    return replace(run, machine=replace(run.machine, features=FeatureFolder(folder, limit)))


def encoder(net: Net, run: object, output: str = "maps") -> FrozenEncoder:
    return FrozenEncoder(net, net.maps, net.preprocess, run, output)


def test_cached_features_equal_computed_ones_and_are_shared_by_subsets(tmp_path: Path) -> None:
    net, data = Net(), images(21)
    plain = toy.run_with(train=data, valid=data, test=data, protocol=None)
    expected = encode_dataset(encoder(net, plain), data, plain, "")
    run = cached_run(data, tmp_path)
    part = data.take([20, 3, 7, 11])
    assert torch.equal(encode_dataset(encoder(net, run), part, run, ""), expected[[20, 3, 7, 11]])
    assert torch.equal(encode_dataset(encoder(net, run), data, run, ""), expected)
    before = net.images
    again = Net()  # the same weights in a new object, as in another process
    assert torch.equal(encode_dataset(encoder(again, run), data, run, ""), expected)
    assert again.images == 0
    assert net.images == before


def test_pyramids_beyond_the_memory_budget_are_read_from_disk(tmp_path: Path) -> None:
    net, data = Net(), images(11)
    run = cached_run(data, tmp_path)
    with EncodedDataset(encoder(net, run), data, run) as encoded:
        whole = encoded.maps(range(11))
    before = net.images
    pyramids = PyramidCache(encoder(net, run), data, run, "", budget=0)
    assert not pyramids.cached
    for level, other in zip(pyramids.batch([10, 0, 0, 5]), whole, strict=True):
        assert torch.equal(level, other[[10, 0, 0, 5]])
    assert net.images == before


def test_everything_that_changes_features_changes_the_entry(tmp_path: Path) -> None:
    data = images(3)
    run = cached_run(data, tmp_path)
    other = MemoryDataset(list(data), CARD, 40, "another fingerprint")
    half = replace(run, machine=replace(run.machine, precision="bf16"))
    blurred = Net()
    blurred.preprocess = replace(blurred.preprocess, resampling="bicubic")
    cases = [
        (Net(), data, run, "maps"),
        (Net(seed=1), data, run, "maps"),
        (Net(), other, run, "maps"),
        (Net(), data, half, "maps"),
        (Net(), data, run, "other output"),
        (blurred, data, run, "maps"),
    ]
    for number, (net, dataset, this_run, output) in enumerate(cases, start=1):
        encode_dataset(encoder(net, this_run, output), dataset, this_run, "")
        assert net.images > 0
        assert len(feature_cache.entries(tmp_path)) == number


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_broken_segment_is_encoded_again(tmp_path: Path, damage: str) -> None:
    net, data = Net(), images(5)
    run = cached_run(data, tmp_path)
    expected = encode_dataset(encoder(net, run), data, run, "")
    (segment,) = tmp_path.glob("*/*.safetensors")
    raw = bytearray(segment.read_bytes())
    raw[-5] ^= 1
    damaged = {"cut": bytes(raw[:-20]), "flipped": bytes(raw), "text": b"not a tensor"}
    segment.write_bytes(damaged[damage])
    again = Net()
    assert torch.equal(encode_dataset(encoder(again, run), data, run, ""), expected)
    assert again.images > 0
    last = Net()
    assert torch.equal(encode_dataset(encoder(last, run), data, run, ""), expected)
    assert last.images == 0


def test_least_recently_used_entries_leave_and_large_ones_are_not_stored(tmp_path: Path) -> None:
    data = images(8)
    one_entry = 2 * 8 * (8 * 15 * 15 * 4)
    run = cached_run(data, tmp_path, limit=one_entry)
    for name in ("first", "second"):
        encode_dataset(encoder(Net(), run, name), data, run, "")
        time.sleep(0.02)
    encode_dataset(encoder(Net(), run, "third"), data, run, "")
    left = [info.key["output"] for info in feature_cache.entries(tmp_path)]
    assert left[0] == "third"
    assert "first" not in left
    assert sum(info.size for info in feature_cache.entries(tmp_path)) <= one_entry
    tiny = cached_run(data, tmp_path / "tiny", limit=1000)
    encode_dataset(encoder(Net(), tiny), data, tiny, "")
    assert feature_cache.entries(tmp_path / "tiny") == []


def _write(folder: Path) -> None:
    data = images(30)
    run, net = cached_run(data, folder), Net()
    encode_dataset(encoder(net, run), data, run, "")
    (folder / f"{os.getpid()}.count").write_text(str(net.images))


@pytest.mark.slow
def test_several_writers_leave_one_right_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    data, net = images(30), Net()
    run = cached_run(data, tmp_path)
    plain = toy.run_with(train=data, valid=data, test=data, protocol=None)
    expected = encode_dataset(encoder(Net(), plain), data, plain, "")
    assert torch.equal(encode_dataset(encoder(net, run), data, run, ""), expected)
    assert net.images == 0
    encoded = sum(int(path.read_text()) for path in tmp_path.glob("*.count"))
    assert encoded == 32  # once each, in four batches of eight


def test_no_entry_is_removed_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = feature_cache.CacheEntry(tmp_path, 10**9, {"output": "a"})
    entry.add(["i"], [torch.ones(1, 3)])
    remover = threading.Thread(target=feature_cache.evict, args=(tmp_path, 0))
    write = feature_cache._write_segment

    def interrupted(path: Path, rows: dict[str, list[Tensor]]) -> None:
        remover.start()
        time.sleep(0.2)  # the remover would be done by now
        write(path, rows)

    monkeypatch.setattr(feature_cache, "_write_segment", interrupted)
    entry.flush()
    remover.join()
    assert feature_cache.entries(tmp_path) == []  # removed afterwards, whole
    assert feature_cache.CacheEntry(tmp_path, 10**9, {"output": "a"}).read(["i"]) is None


def test_a_process_with_a_turn_waits_for_no_other_entry(tmp_path: Path) -> None:
    """Otherwise two processes could wait for each other."""
    one, other = (feature_cache.CacheEntry(tmp_path, 10**9, {"output": o}) for o in "ab")
    first, second = feature_cache.Turn(one), feature_cache.Turn(other)
    assert first.wait()
    assert not second.wait()
    second.end()
    assert not feature_cache.Turn(other).wait()  # the first turn has not ended
    first.end()
    assert second.wait()
    second.end()


def test_show_and_clear(tmp_path: Path) -> None:
    data = images(3)
    run = cached_run(data, tmp_path)
    encode_dataset(encoder(Net(), run), data, run, "")
    runner = CliRunner()
    shown = runner.invoke(app, ["cache", "show", "--feature-cache", str(tmp_path)])
    assert shown.exit_code == 0
    assert "maps" in shown.output
    cleared = runner.invoke(app, ["cache", "clear", "--feature-cache", str(tmp_path)])
    assert cleared.exit_code == 0
    assert feature_cache.entries(tmp_path) == []
