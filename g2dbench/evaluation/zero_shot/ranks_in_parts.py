"""Ranks over a retrieval pool that does not fit in memory, equal to those of `metrics.retrieval`.

Legend: N queries, M pool items in all, m in one part, D width, G kinds of group id.
The search is exact: every query is compared with every item. Memory is that of one chunk, so it
depends neither on M nor on the size of the parts, if these are memory-mapped.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from g2dbench.metrics.retrieval import TIE_TOLERANCE, unit_rows

PoolPart: TypeAlias = tuple[NDArray[np.floating], ArrayLike]
"""A part of a pool: embeddings (m,D), which may be memory-mapped, and group ids (m,) or (m,G)."""

_MAX_ELEMENTS = 1 << 22  # of a chunk: similarities, and embeddings


def ranks_in_parts(
    query: ArrayLike, query_groups: ArrayLike, pool: Iterable[PoolPart]
) -> NDArray[np.int64]:
    """The same ranks (N,) over a pool that does not fit in memory; query (N,D), groups (N,[G]).

    The pool is iterated twice: for the rows that match a query, and for all rows, in float32. Where
    its rounding could change a comparison, the cosine is computed again in float64.
    """
    queries = unit_rows(query, "query")
    groups = _as_columns(query_groups)
    if len(groups) != len(queries):
        raise ValueError(f"{len(queries)} queries have {len(groups)} group ids")
    step = max(1, _MAX_ELEMENTS // max(1, *queries.shape))
    best = np.full(len(queries), -np.inf)
    for first, rows, ids in _chunks(pool, step):
        left, right = _matches(groups, ids)
        if right.size:
            found, place = np.unique(right, return_inverse=True)
            items = unit_rows(rows[found], "matching pool", first)[place]
            np.maximum.at(best, left, np.einsum("nd,nd->n", queries[left], items))
    if unmatched := int(np.isneginf(best).sum()):
        raise ValueError(f"{unmatched} queries have no matching item in the pool")
    above = np.zeros(len(queries), dtype=np.int64)
    for first, rows, ids in _chunks(pool, step):
        items = unit_rows(rows, "pool", first)
        above += _count_above(queries, items, best - TIE_TOLERANCE, _matches(groups, ids))
    return 1 + above


def _chunks(
    pool: Iterable[PoolPart], step: int
) -> Iterator[tuple[int, NDArray[np.floating], NDArray[np.generic]]]:
    """At most `step` rows at a time: the number of the first row, embeddings, group ids."""
    first = 0
    for rows, groups in pool:
        ids = _as_columns(groups)
        if len(rows) != len(ids):
            raise ValueError(f"a part of {len(rows)} embeddings has {len(ids)} group ids")
        for at in range(0, len(ids), step):
            yield first + at, rows[at : at + step], ids[at : at + step]
        first += len(ids)


def _as_columns(groups: ArrayLike) -> NDArray[np.generic]:
    ids = np.asarray(groups)
    return ids[:, None] if ids.ndim == 1 else ids


def _matches(
    queries: NDArray[np.generic], rows: NDArray[np.generic]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Query and row of each pair with a common group id, each pair once."""
    if queries.shape[1] != rows.shape[1]:
        raise ValueError(f"group ids {queries.shape} and {rows.shape} must be (items, kinds)")
    found = []
    for own, other in zip(queries.T, rows.T, strict=True):
        left = pd.DataFrame({"id": own, "query": np.arange(len(own))})
        right = pd.DataFrame({"id": other, "row": np.arange(len(other))})
        if left["id"].isna().any() or right["id"].isna().any():
            raise ValueError("a group id is missing; items without one need an id of their own")
        found.append(left.merge(right[right["id"].isin(own)], on="id")[["query", "row"]])
    pairs = pd.concat(found).drop_duplicates()
    return pairs["query"].to_numpy(np.intp), pairs["row"].to_numpy(np.intp)


def _count_above(
    queries: NDArray[np.float64],
    items: NDArray[np.float64],
    threshold: NDArray[np.float64],
    matches: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.int64]:
    """Number (N,) of items that are at least as similar as `threshold` (N,) and no match."""
    # The rounding of both vectors and of their inner product, with room to spare (Higham 2002,
    # Accuracy and Stability of Numerical Algorithms, section 3.1).
    margin = (2 * queries.shape[1] + 16) * float(np.finfo(np.float32).eps)
    cosine = queries.astype(np.float32) @ items.astype(np.float32).T
    cosine[matches] = -np.inf
    low, high = ((threshold + sign * margin).astype(np.float32)[:, None] for sign in (-1, 1))
    query, item = np.nonzero(cosine >= low)
    if query.size > cosine.size // 64:  # many near ties: a product costs less than single pairs
        exact = queries @ items.T
        exact[matches] = -np.inf
        return np.asarray((exact >= threshold[:, None]).sum(axis=1), dtype=np.int64)
    sure = cosine[query, item] >= high[query, 0]
    near, other = query[~sure], item[~sure]
    exact = np.einsum("nd,nd->n", queries[near], items[other])
    counted = np.concatenate([query[sure], near[exact >= threshold[near]]])
    return np.bincount(counted, minlength=len(queries)).astype(np.int64)
