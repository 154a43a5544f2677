"""The order of a stream: each pair once, for any number of processes and when resumed."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.data.shards import DATA, a_loader, exported, opened, the_store

from g2dbench.data.shards.download_cache import DownloadCache
from g2dbench.data.shards.files import BLOCK_ROWS
from g2dbench.data.shards.order import make_order, shuffle
from g2dbench.errors import BadData, Misuse
from g2dbench.method import Batch
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.training.batches import source
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import find_pairs

pytestmark = pytest.mark.integration

KINDS = ("parquet", "webdataset")


def same(one: Batch, other: Batch) -> bool:
    return (
        (one.ids, one.step) == (other.ids, other.step)
        and torch.equal(one.images, other.images)
        and torch.equal(one.tokens, other.tokens)
        and torch.equal(one.attention, other.attention)
    )


def ids_of(batches: Any) -> list[str]:
    return [name for batch in batches for name in batch.ids]


@pytest.mark.parametrize("seed", range(5))
def test_each_pair_goes_to_one_process_for_random_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 40, rng.integers(1, 12)).tolist()
    wanted = {(shard, place) for shard, count in enumerate(counts) for place in range(count)}
    for world in (1, 2, 3, 7):
        found: list[tuple[int, int]] = []
        sizes = []
        for rank in range(world):
            order = make_order(counts, seed, 2, rank=rank, world_size=world, buffer=5)
            pairs = list(zip(order.shards.tolist(), order.pairs.tolist(), strict=True))
            assert sorted(order.training_order.tolist()) == list(range(len(pairs)))
            partial = sum(Counter(order.shards.tolist())[s] != counts[s] for s in set(order.shards))
            assert partial <= 2, "only the shards at the two ends are shared"
            sizes.append(len(pairs))
            found += pairs
        assert sorted(found) == sorted(wanted)
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("count", "buffer"), [(0, 3), (1, 1), (20, 1), (20, 7), (20, 20), (9, 50)])
def test_the_shuffle_stays_within_the_buffer(count: int, buffer: int) -> None:
    drawn = shuffle(count, buffer, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == list(range(count))
    assert all(item < at + buffer for at, item in enumerate(drawn.tolist()))
    if buffer == 1:
        assert drawn.tolist() == list(range(count))


def test_a_full_buffer_shuffles_evenly() -> None:
    """With a buffer of all items, the 6 orders of 3 items are equally likely."""
    rng = np.random.default_rng(0)
    seen = Counter(tuple(shuffle(3, 3, rng).tolist()) for _ in range(6000))
    assert len(seen) == 6
    assert all(850 < count < 1150 for count in seen.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_has_each_pair_once_over_ranks_and_workers(
    small_store: Path, tmp_path: Path, kind: Any
) -> None:
    exported(small_store, tmp_path / "s", kind)
    pairs = {*find_pairs(the_store(small_store).split("train"), "frontal").ids}
    assert len(pairs) == 91
    for world in (1, 2, 3):
        found: list[str] = []
        for rank in range(world):
            loader = a_loader(opened(tmp_path / "s", tmp_path), rank=rank, world_size=world)
            alone = list(loader.epoch(1))
            assert len(alone) == loader.steps == 91 // world // 4
            # Workers cost seconds to start: one rank of each world shows that they change nothing.
            if rank == world - 1 and kind == "webdataset":
                helped = a_loader(
                    opened(tmp_path / "s", tmp_path), rank=rank, world_size=world, workers=2
                )
                assert all(map(same, alone, helped.epoch(1)))
            found += ids_of(alone)
        assert len(found) == len(set(found)) == world * (91 // world // 4) * 4
        assert set(found) <= pairs


def test_formats_and_shard_sizes_give_the_same_pixels(small_store: Path, tmp_path: Path) -> None:
    """Without augmentation, the training pairs equal those of the loader of the store."""
    store = the_store(small_store)
    pairs = find_pairs(store.split("train"), "frontal")
    tokenize = Tokenize(train_wordpiece(pairs.reports, 200), 32)
    settings = LoaderSettings(
        preprocess=Preprocess(size=32), tokenize=tokenize,
        batch_size=7, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    plain = source.make_loader(pairs, settings)
    wanted = {
        name: (image, tokens[seen.bool()].tolist())
        for batch in plain.unaugmented()
        for name, image, tokens, seen in zip(
            batch.ids, batch.images, batch.tokens, batch.attention, strict=True
        )
    }
    for kind, images in (("parquet", 50), ("webdataset", 12), ("parquet", 1)):
        out = tmp_path / f"{kind}{images}"
        exported(small_store, out, kind, images)
        found = source.training_pairs(opened(out, tmp_path), DATA, 1)
        loader = source.make_loader(found, settings)
        for batch in loader.epoch(0):
            for at, name in enumerate(batch.ids):
                image, tokens = wanted[name]
                assert torch.equal(batch.images[at], image)
                assert batch.tokens[at][batch.attention[at].bool()].tolist() == tokens
            assert [report for _, report in loader.groups(batch.ids)] == [
                pairs.reports[pairs.ids.index(name)] for name in batch.ids
            ]
        assert loader.steps == 13


def test_an_epoch_resumed_at_any_batch_gives_the_same_batches(
    small_store: Path, tmp_path: Path
) -> None:
    exported(small_store, tmp_path / "s", "webdataset")
    loader = a_loader(opened(tmp_path / "s", tmp_path), batch_size=10)
    whole = list(loader.epoch(3))
    assert [batch.step for batch in whole] == list(range(27, 36))
    for first in range(len(whole) + 1):
        rest = list(a_loader(opened(tmp_path / "s", tmp_path), batch_size=10).epoch(3, first))
        assert len(rest) == len(whole) - first
        assert all(map(same, whole[first:], rest))


def test_only_shards_that_are_needed_are_opened(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(small_store, tmp_path / "s", "webdataset", 6)
    loader = a_loader(opened(tmp_path / "s", tmp_path, buffer=4), batch_size=10)
    got: list[str] = []
    get = DownloadCache.get

    def noting(self: Any, shard: Any, then: Any = None) -> Path:
        got.append(shard.name)
        return get(self, shard, then)

    monkeypatch.setattr(DownloadCache, "get", noting)
    list(loader.epoch(0))
    whole = set(got)
    assert len(whole) == 16
    got.clear()
    list(loader.epoch(0, 8))
    assert 0 < len(set(got)) <= 4
    got.clear()
    assert list(loader.epoch(0, 9)) == []
    assert not got


def test_the_order_depends_on_epoch_seed_world_size_and_buffer(
    small_store: Path, tmp_path: Path
) -> None:
    exported(small_store, tmp_path / "s")
    base = ids_of(a_loader(opened(tmp_path / "s", tmp_path)).epoch(0))
    again = ids_of(a_loader(opened(tmp_path / "s", tmp_path)).epoch(0))
    assert base == again
    others = [
        ids_of(a_loader(opened(tmp_path / "s", tmp_path)).epoch(1)),
        ids_of(a_loader(opened(tmp_path / "s", tmp_path), seed=1).epoch(0)),
        ids_of(a_loader(opened(tmp_path / "s", tmp_path, buffer=8)).epoch(0)),
        ids_of(a_loader(opened(tmp_path / "s", tmp_path), world_size=2).epoch(0)),
    ]
    assert all(other != base for other in others)
    prints = {opened(tmp_path / "s", tmp_path, buffer=b).fingerprint for b in (8, 16)}
    assert len(prints) == 2


def test_pairs_in_memory_stay_within_the_buffer_and_one_block(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(small_store, tmp_path / "s", images=90)
    monkeypatch.setattr("g2dbench.training.batches.shard_loader.BLOCK_ROWS", 8)
    monkeypatch.setattr("g2dbench.training.batches.shard_blocks.BLOCK_ROWS", 8)
    loader = a_loader(opened(tmp_path / "s", tmp_path, buffer=5), batch_size=4)
    read = 0
    arriving = loader._read_blocks

    def counting(*words: Any) -> Any:
        nonlocal read
        for part in arriving(*words):
            read += len(part)
            yield part

    monkeypatch.setattr(loader, "_read_blocks", counting)
    for at, _ in enumerate(loader.epoch(0)):
        assert read - (at + 1) * 4 < 5 + 8
    assert read == loader.steps * 4
    assert BLOCK_ROWS == 64


def test_errors_for_few_pairs_small_images_and_missing_shards(
    small_store: Path, tmp_path: Path
) -> None:
    exported(small_store, tmp_path / "s")
    found = opened(tmp_path / "s", tmp_path)
    with pytest.raises(Misuse, match="91 training pairs, fewer than one batch of 200"):
        source.training_pairs(found, DATA, 200)
    with pytest.raises(Misuse, match="images of 64 px, the recipe wants 128"):
        opened(tmp_path / "s", tmp_path, side=128)
    held = source.held_out_pairs(found, DATA)
    assert held is not None
    assert set(held.ids) == set(find_pairs(the_store(small_store).split("valid"), "frontal").ids)
    with pytest.raises(BadData, match=r"holds no \*.parquet"):
        opened(tmp_path / "empty", tmp_path)
