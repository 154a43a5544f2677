"""Ranks over a pool in parts: equal to the ranks in memory, in flat memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from g2dbench.errors import BadResult
from g2dbench.evaluation.zero_shot import ranks_in_parts as parts
from g2dbench.evaluation.zero_shot.ranks_in_parts import ranks_in_parts
from g2dbench.metrics import retrieval


def cut(rows: NDArray, groups: NDArray, size: int) -> list[tuple[NDArray, NDArray]]:
    return [(rows[at : at + size], groups[at : at + size]) for at in range(0, len(rows), size)]


@pytest.mark.parametrize("seed", range(30))
def test_ranks_equal_those_in_memory(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values, so that there are many exact ties; one or two kinds of group id."""
    rng = np.random.default_rng(seed)
    values = (rng.integers(-1, 2, (40, 4)), rng.standard_normal((40, 64)))[seed % 2]
    pool = values.astype((np.float16, np.float32, np.float64)[seed % 3])
    pool[np.abs(pool).sum(axis=1) == 0] = 1
    groups = rng.integers(0, 12, (40, 1 + seed % 2)).astype(str)
    query, own = pool[:14], groups[:14]
    wanted = retrieval.ranks(query, pool, own, groups)
    monkeypatch.setattr(parts, "_MAX_ELEMENTS", (1 << 22, 64 * 7)[seed % 5 == 0])
    for size in (1, 13, 40):
        assert np.array_equal(ranks_in_parts(query, own, cut(pool, groups, size)), wanted)


def test_items_closer_than_float32_can_tell_are_ranked_in_float64() -> None:
    """Half of the items are 2e-8 more similar than the match, half less: two values in float32."""
    angle = 1.0 + np.concatenate([[0.0], np.repeat([-2e-8, 2e-8], 50)])
    far = np.full(10_000, 2.5)
    pool = np.stack([np.cos([*angle, *far]), np.sin([*angle, *far])], axis=1)
    groups = np.arange(len(pool))
    assert len(np.unique((pool[:101] @ [1, 0]).astype(np.float32))) == 2
    query = np.array([[1.0, 0.0]])
    for size in (77, len(pool)):  # few near ties in a chunk, and many
        assert ranks_in_parts(query, [0], cut(pool, groups, size)).tolist() == [51]


def test_a_constant_model_ranks_last() -> None:
    ones, own = np.ones((50, 4)), np.arange(50)
    assert set(ranks_in_parts(ones[:3], own[:3], cut(ones, own, 20))) == {50}


def test_errors_name_the_row_of_the_whole_pool() -> None:
    pool, groups = np.ones((30, 4)), np.arange(30)
    pool[27] = 0
    with pytest.raises(BadResult, match="pool embedding 27 is zero"):
        ranks_in_parts(pool[:2], groups[:2], cut(pool, groups, 8))
    with pytest.raises(ValueError, match="1 queries have no matching item"):
        ranks_in_parts(pool[:2], [0, 99], cut(pool, groups, 8))
    with pytest.raises(ValueError, match="a group id is missing"):
        ranks_in_parts(pool[:2], ["a", None], cut(pool, groups.astype(str), 8))
    with pytest.raises(ValueError, match="must be \\(items, kinds\\)"):
        ranks_in_parts(pool[:2], groups[:2], cut(pool, np.stack([groups, groups], axis=1), 8))
    with pytest.raises(ValueError, match="a part of 30 embeddings has 2 group ids"):
        ranks_in_parts(pool[:2], groups[:2], [(pool, groups[:2])])


def test_memory_does_not_grow_with_the_pool(tmp_path: Path) -> None:
    """A pool of 4 and of 16 files of 4,096 x 256, memory-mapped one after the other."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "part.npy", rng.standard_normal((4096, 256)).astype(np.float16))

    def pool(files: int) -> Iterator[tuple[NDArray, NDArray]]:
        for number in range(files):
            rows = np.load(tmp_path / "part.npy", mmap_mode="r")
            yield rows, np.arange(len(rows)) + number * len(rows)

    class Files:
        def __init__(self, count: int) -> None:
            self.count = count

        def __iter__(self) -> Iterator[tuple[NDArray, NDArray]]:
            return pool(self.count)

    query = np.load(tmp_path / "part.npy")[:20]
    peaks = []
    for files in (4, 16):
        tracemalloc.start()
        found = ranks_in_parts(query, np.arange(20), Files(files))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (found == files).all()  # its copies in the other files count against it
    assert peaks[1] < 1.2 * peaks[0]
