"""Measures exact retrieval over a pool that does not fit in memory: 10 million x 512 by default.

    python benchmarks/large_retrieval.py [--items 10000000] [--width 512] [--queries 1000]

The pool is simulated: float16 files of 250,000 embeddings each. A file is written when it is
needed, read memory-mapped and then deleted, so that one of them is on disk at a time; each is made
from one random table by its own permutation and signs of the columns. The query is a noisy copy of
an item. One thread. The check compares the ranks of some queries with a plain float64 search over
all items. Writing the files is not in the search time.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from g2dbench.evaluation.zero_shot.ranks_in_parts import PoolPart, ranks_in_parts
from g2dbench.metrics.retrieval import TIE_TOLERANCE, unit_rows

FILE_ROWS = 250_000
NOISE = 4.0
"""Standard deviation of a query's noise beside its item's 1: its cosine with it is near 0.24."""


class SimulatedPool:
    """Iterates over the files of a pool. writing: seconds spent on writing them."""

    def __init__(self, folder: Path, items: int, width: int) -> None:
        self._path, self._items, self._width = folder / "part.npy", items, width
        rng = np.random.default_rng(0)
        rows = min(FILE_ROWS, items)
        self._base = rng.standard_normal((rows, width), dtype=np.float32).astype(np.float16)
        self.writing = 0.0

    def __iter__(self) -> Iterator[PoolPart]:
        for number, first in enumerate(range(0, self._items, FILE_ROWS)):
            rows = min(FILE_ROWS, self._items - first)
            began = time.perf_counter()
            self._write(number, rows)
            self.writing += time.perf_counter() - began
            yield np.load(self._path, mmap_mode="r"), np.arange(first, first + rows)
            self._path.unlink()

    def rows(self, number: int, which: NDArray[np.int64] | slice) -> NDArray[np.float16]:
        """Embeddings of one file without the file, (n, width)."""
        rng = np.random.default_rng([1, number])
        order = rng.permutation(self._width)
        signs = rng.choice(np.array([-1, 1], dtype=np.float16), self._width)
        found: NDArray[np.float16] = self._base[which][:, order] * signs
        return found

    def _write(self, number: int, rows: int) -> None:
        file = np.lib.format.open_memmap(self._path, "w+", np.float16, (rows, self._width))
        for at in range(0, rows, 10_000):
            stop = min(rows, at + 10_000)
            file[at:stop] = self.rows(number, slice(at, stop))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--checked", type=int, default=20, help="queries that are checked")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="g2dbench-pool-") as folder, threadpool_limits(1):
        pool = SimulatedPool(Path(folder), args.items, args.width)
        rng = np.random.default_rng(2)
        own = np.sort(rng.choice(args.items, args.queries, replace=False))
        query = np.concatenate(
            [pool.rows(at // FILE_ROWS, np.array([at % FILE_ROWS])) for at in own]
        ) + NOISE * rng.standard_normal((args.queries, args.width))
        rank = measure(pool, query, own, args.items)
        check(pool, query[: args.checked], own[: args.checked], rank[: args.checked])


def measure(
    pool: SimulatedPool, query: NDArray, own: NDArray[np.int64], items: int
) -> NDArray[np.int64]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, used = time.perf_counter(), os.times()
    rank = ranks_in_parts(query, own, pool)
    seconds = time.perf_counter() - began - pool.writing
    now = os.times()
    processor = now.user + now.system - used.user - used.system
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{len(query):,} queries over {items:,} x {query.shape[1]}: {seconds:.0f} s of search, "
        f"{pool.writing:.0f} s of writing, {processor:.0f} s of CPU for both; peak "
        f"{peak / 2**20:.2f} GiB, of which {before / 2**20:.2f} GiB before the search"
    )
    shares = (f"R@{k} {np.mean(rank <= k):.3f}" for k in (1, 10, 100))
    print(f"{', '.join(shares)}, median rank {np.median(rank):.0f}, worst {rank.max():,}")
    return rank


def check(pool: SimulatedPool, query: NDArray, own: NDArray[np.int64], rank: NDArray) -> None:
    """Compare ranks with a float64 search over the whole pool."""
    queries = unit_rows(query, "query")
    partners = [pool.rows(at // FILE_ROWS, np.array([at % FILE_ROWS]))[0] for at in own]
    best = np.einsum("nd,nd->n", queries, unit_rows(np.stack(partners), "partner"))
    wanted = np.zeros(len(own), dtype=np.int64)
    for rows, _ in pool:
        for at in range(0, len(rows), 20_000):
            cosine = queries @ unit_rows(rows[at : at + 20_000], "pool").T
            wanted += (cosine >= best[:, None] - TIE_TOLERANCE).sum(axis=1)
    equal = int((wanted == rank).sum())
    print(f"{equal} of {len(own)} ranks equal those of a float64 search over all items")


if __name__ == "__main__":
    main()
