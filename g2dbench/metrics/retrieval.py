"""Cross-modal retrieval over the full pool: is the right report among the first k, and back.

Legend: N queries, M pool items, D width, G kinds of group id.
A pool item is a hit if it shares any group id with the query: same study, or identical report.
The rank of a query is 1 + the number of wrong items at least as similar as its best hit, so that a
tie counts against the model, and a constant embedding is worth nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

KS = (1, 5, 10)
TIE = 1e-9
"""Cosines closer than this are tied: the same vector may come out of a matrix product a few 1e-16
apart, depending on its place in the chunk, and ranks must not depend on chunks."""

_CELLS = 1 << 22  # query x pool cells held at once: 32 MB per float64 array


def _unit(embedding: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows of length 1 in float64; ValueError for rows that are zero or not finite."""
    rows = np.asarray(embedding, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"{name} embeddings must be (items, width); found {rows.shape}")
    length = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if bad.size:
        raise ValueError(f"{name} embedding {bad[0]} is zero or not finite and has no direction")
    return np.asarray(rows / length[:, None])


def _codes(query: ArrayLike, pool: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group ids as numbers, (N,G) and (M,G), the same number for the same id of one kind."""
    left, right = np.asarray(query, dtype=object), np.asarray(pool, dtype=object)
    left = left[:, None] if left.ndim == 1 else left
    right = right[:, None] if right.ndim == 1 else right
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"group ids {left.shape} and {right.shape} must be (items, kinds)")
    both = np.concatenate([left, right])
    codes = np.stack([pd.factorize(kind)[0] for kind in both.T], axis=1)
    if (codes < 0).any():
        raise ValueError("a group id is missing; items without one need an id of their own")
    return codes[: len(left)], codes[len(left) :]


def ranks_from_similarity(
    similarity: ArrayLike, query_groups: ArrayLike, pool_groups: ArrayLike, tie: float = 0.0
) -> NDArray[np.int64]:
    """Rank (N,) of each query's best hit; similarity (N,M), group ids (N,) or (N,G), (M,) or (M,G).

    Raises ValueError when a similarity is not finite or a query has no hit in the pool.
    """
    values = np.asarray(similarity, dtype=np.float64)
    left, right = _codes(query_groups, pool_groups)
    if values.shape != (len(left), len(right)):
        raise ValueError(
            f"similarities {values.shape} do not fit {len(left)} queries and {len(right)} items"
        )
    if not np.isfinite(values).all():
        raise ValueError("a similarity is not finite")
    return _ranks(values, left, right, tie)


def _ranks(
    values: NDArray[np.float64], left: NDArray[np.intp], right: NDArray[np.intp], tie: float
) -> NDArray[np.int64]:
    hit = np.zeros(values.shape, dtype=bool)
    for kind in range(left.shape[1]):
        hit |= left[:, kind, None] == right[None, :, kind]
    lost = np.flatnonzero(~hit.any(axis=1))
    if lost.size:
        raise ValueError(f"{lost.size} queries have no matching item in the pool")
    best = np.where(hit, values, -np.inf).max(axis=1, initial=-np.inf)
    return np.asarray(1 + ((values >= best[:, None] - tie) & ~hit).sum(axis=1), dtype=np.int64)


def ranks(
    query: ArrayLike, pool: ArrayLike, query_groups: ArrayLike, pool_groups: ArrayLike
) -> NDArray[np.int64]:
    """Rank (N,) of each query's best hit by cosine, against the whole pool, in bounded memory.

    query (N,D), pool (M,D); group ids (N,) or (N,G) and (M,) or (M,G).
    """
    asked, items = _unit(query, "query"), _unit(pool, "pool")
    left, right = _codes(query_groups, pool_groups)
    if len(left) != len(asked) or len(right) != len(items) or asked.shape[1] != items.shape[1]:
        raise ValueError(
            f"embeddings {asked.shape}, {items.shape} and group ids {left.shape}, {right.shape} "
            "do not fit"
        )
    step = max(1, _CELLS // max(1, len(items)))
    parts = [
        _ranks(asked[at : at + step] @ items.T, left[at : at + step], right, TIE)
        for at in range(0, len(asked), step)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def recall_values(rank: ArrayLike, k: int) -> NDArray[np.float64]:
    """Per query 1 if a hit is among the first k, else 0; (N,). The mean is R@k."""
    return (np.asarray(rank) <= k).astype(np.float64)


def recalls(
    images: ArrayLike, texts: ArrayLike, groups: ArrayLike, ks: Sequence[int] = KS
) -> dict[str, float]:
    """R@k of N pairs in both directions, over the full pool: "image_to_text_r1", and so on.

    images, texts (N,D), row i of one belonging to row i of the other; groups (N,) or (N,G).
    NaN without pairs. BenchX's pool is one batch, so its Hit@k depends on the batch size.
    """
    found = {
        "image_to_text": ranks(images, texts, groups, groups),
        "text_to_image": ranks(texts, images, groups, groups),
    }
    return {
        f"{direction}_r{k}": float(recall_values(rank, k).mean()) if rank.size else float("nan")
        for direction, rank in found.items()
        for k in ks
    }
