"""Image-to-text and text-to-image retrieval over the full pool: recall at k.

Legend: N queries, M pool items, D width, G kinds of group id.
A pool item is a match if it shares a group id with the query: same study, or identical report.
The rank of a query is 1 + the number of non-matches at least as similar as its best match. So a
tie counts against the model, and a constant embedding scores 0.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

KS = (1, 5, 10)
TIE_TOLERANCE = 1e-9
"""Cosines closer than this are tied. A matrix product rounds equal vectors differently, by a few
1e-16, depending on their place in the chunk, and ranks must not depend on chunks."""

_MAX_ELEMENTS = 1 << 22  # query x pool cells held at once: 32 MB per float64 array


def _normalized(embedding: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows scaled to length 1, float64; ValueError for rows that are zero or not finite."""
    rows = np.asarray(embedding, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"{name} embeddings must be (items, width); found {rows.shape}")
    length = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if bad.size:
        raise ValueError(f"{name} embedding {bad[0]} is zero or not finite and has no direction")
    return np.asarray(rows / length[:, None])


def _group_codes(query: ArrayLike, pool: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group ids as integers, (N,G) and (M,G); equal ids of one kind get equal integers."""
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
    """Rank (N,) of each query's best match; similarity (N,M), group ids (N,[G]) and (M,[G]).

    Raises ValueError if a similarity is not finite or a query has no match in the pool.
    """
    values = np.asarray(similarity, dtype=np.float64)
    left, right = _group_codes(query_groups, pool_groups)
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
    unmatched = np.flatnonzero(~hit.any(axis=1))
    if unmatched.size:
        raise ValueError(f"{unmatched.size} queries have no matching item in the pool")
    best = np.where(hit, values, -np.inf).max(axis=1, initial=-np.inf)
    return np.asarray(1 + ((values >= best[:, None] - tie) & ~hit).sum(axis=1), dtype=np.int64)


def ranks(
    query: ArrayLike, pool: ArrayLike, query_groups: ArrayLike, pool_groups: ArrayLike
) -> NDArray[np.int64]:
    """Rank (N,) of each query's best match by cosine over the whole pool, computed in chunks.

    query (N,D), pool (M,D); group ids (N,) or (N,G) and (M,) or (M,G).
    """
    queries, items = _normalized(query, "query"), _normalized(pool, "pool")
    left, right = _group_codes(query_groups, pool_groups)
    if len(left) != len(queries) or len(right) != len(items) or queries.shape[1] != items.shape[1]:
        raise ValueError(
            f"embeddings {queries.shape}, {items.shape} and group ids {left.shape}, {right.shape} "
            "do not fit"
        )
    step = max(1, _MAX_ELEMENTS // max(1, len(items)))
    parts = [
        _ranks(queries[at : at + step] @ items.T, left[at : at + step], right, TIE_TOLERANCE)
        for at in range(0, len(queries), step)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def recall_values(rank: ArrayLike, k: int) -> NDArray[np.float64]:
    """1 for each query with a match among the first k, else 0, (N,). The mean is R@k."""
    return (np.asarray(rank) <= k).astype(np.float64)


def recalls(
    images: ArrayLike, texts: ArrayLike, groups: ArrayLike, ks: Sequence[int] = KS
) -> dict[str, float]:
    """R@k of N pairs in both directions over the full pool: {"image_to_text_r1": ..., ...}.

    images, texts (N,D), row i of both is one pair; groups (N,) or (N,G). NaN without pairs.
    Source: Hodosh et al. 2013. BenchX's pool is one batch: its Hit@k depends on batch size.
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
