"""Image-to-text and text-to-image retrieval over the full pool: recall at k, ranks, precision at k.

Legend: N queries, M pool items, D width, G kinds of group id, B resamples.
A pool item is a match if it shares a group id with the query: same study, or identical report.
The rank of a query is 1 + the number of non-matches at least as similar as its best match. So a
tie counts against the model, and a constant embedding scores 0.

Reports of healthy patients are often identical. `ranks` counts every copy as a match, if the group
ids say so; `strict_ranks` counts the query's own partner alone, and its copies as wrong answers.
Resamples repeat queries; the pool stays the same.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from g2dbench.errors import BadResult
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.labels import Weights, check_weights
from g2dbench.metrics.statistic import Statistic

KS = (1, 5, 10)
TIE_TOLERANCE = 1e-9
"""Cosines closer than this are tied. A matrix product rounds equal vectors differently, by a few
1e-16, depending on their place in the chunk, and ranks must not depend on chunks."""

_MAX_ELEMENTS = 1 << 22  # query x pool cells held at once: 32 MB per float64 array


def unit_rows(embedding: ArrayLike, name: str, first: int = 0) -> NDArray[np.float64]:
    """Rows scaled to length 1, float64; BadResult for rows that are zero or not finite.

    first: the number of the first row, for the message.
    """
    rows = np.asarray(embedding, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"{name} embeddings must be (items, width); found {rows.shape}")
    length = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if bad.size:
        raise BadResult(
            f"{name} embedding {first + bad[0]} is zero or not finite and has no direction"
        )
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

    Raises BadResult if a similarity is not finite, ValueError if a query has no match in the pool.
    """
    values = np.asarray(similarity, dtype=np.float64)
    left, right = _group_codes(query_groups, pool_groups)
    if values.shape != (len(left), len(right)):
        raise ValueError(
            f"similarities {values.shape} do not fit {len(left)} queries and {len(right)} items"
        )
    if not np.isfinite(values).all():
        query = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise BadResult(f"a similarity of query {query} is not finite")
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
    queries, items = unit_rows(query, "query"), unit_rows(pool, "pool")
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


def strict_ranks(query: ArrayLike, pool: ArrayLike) -> NDArray[np.int64]:
    """Rank (N,) of item i for query i among all items, by cosine; query, pool (N,D).

    A copy of item i is as similar as item i itself, and a wrong answer: it counts against it.
    """
    own = np.arange(len(np.asarray(query)))
    return ranks(query, pool, own, np.arange(len(np.asarray(pool))))


def recall_values(rank: ArrayLike, k: int) -> NDArray[np.float64]:
    """1 for each query with a match among the first k, else 0, (N,). The mean is R@k."""
    return (np.asarray(rank) <= k).astype(np.float64)


def recalls(
    images: ArrayLike, texts: ArrayLike, groups: ArrayLike, ks: Sequence[int] = KS
) -> dict[str, float]:
    """R@k of N pairs in both directions over the full pool: {"image_to_text_r1": ..., ...}.

    images, texts (N,D), row i of both is one pair; groups (N,) or (N,G). NaN without pairs.
    Source: Hodosh et al. 2013, Framing Image Description as a Ranking Task, JAIR 47. BenchX's pool
    is one batch: its Hit@k depends on batch size.
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


def retrieval_statistics(rank: ArrayLike, ks: Sequence[int] = KS) -> dict[str, Statistic]:
    """R@k ("r1", "r5" ...), mean reciprocal rank "mrr" and "median_rank" of N queries' ranks.

    Recalls and the reciprocal rank are better if high, the median rank if low. NaN without queries.
    """
    values = np.asarray(rank)
    if values.ndim != 1 or (values.size and values.min() < 1):
        raise ValueError("ranks must be a list of whole numbers from 1")
    found: dict[str, Statistic] = {f"r{k}": mean_of(recall_values(values, k)) for k in ks}
    found["mrr"] = mean_of(1.0 / values)
    found["median_rank"] = lambda weights: weighted_median(values, weights)
    return found


def weighted_median(values: ArrayLike, weights: Weights) -> NDArray[np.float64]:
    """Median of per-row values (N,) in each resample, (B,), for multiplicities (B,N).

    The mean of the two middle values of an even number of rows; NaN without rows.
    """
    numbers = np.asarray(values, dtype=np.float64)
    check_weights(weights, numbers.size)
    if numbers.size == 0:
        return np.full(len(weights), np.nan)
    order = np.argsort(numbers, kind="stable")
    passed = np.cumsum(weights[:, order], axis=1)
    total = passed[:, -1]
    lower, upper = (  # the row at this place of the repeated rows
        (passed <= place[:, None]).sum(axis=1).clip(max=numbers.size - 1)
        for place in ((total - 1) // 2, total // 2)
    )
    middle = (numbers[order][lower] + numbers[order][upper]) / 2
    return np.where(total > 0, middle, np.nan)


def class_precisions(
    query: ArrayLike,
    pool: ArrayLike,
    query_classes: ArrayLike,
    pool_classes: ArrayLike,
    ks: Sequence[int],
    same_item: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Precision@k of class retrieval, (N, len(ks)): share of the k nearest items of the same class.

    query (N,D), pool (M,D), classes (N,) and (M,). same_item (N,): index of the pool item that is
    the query itself, and is left out; -1 for none. Ties count against the model: other classes
    come first. Mean over queries: `mean_of(found[:, i])`.
    Source: ConVIRT (Zhang et al. 2022), CheXpert 8x200; GLoRIA (Huang et al. 2021), 5x200.
    """
    queries, items = unit_rows(query, "query"), unit_rows(pool, "pool")
    left, right = _group_codes(query_classes, pool_classes)
    own = np.full(len(queries), -1) if same_item is None else np.asarray(same_item, dtype=np.intp)
    if not len(left) == len(queries) == len(own) or len(right) != len(items):
        raise ValueError(
            f"{len(queries)} queries with {len(left)} classes and {len(own)} items, and a pool of "
            f"{len(items)} with {len(right)} classes do not fit"
        )
    available = len(items) - int((own >= 0).any())
    if not ks or min(ks) < 1 or max(ks) > available:
        raise ValueError(f"precision at {list(ks)} needs 1 to {available} items of the pool")
    step = max(1, _MAX_ELEMENTS // len(items))
    parts = [
        _precisions(queries[rows] @ items.T, left[rows, 0], right[:, 0], own[rows], ks)
        for rows in (slice(at, at + step) for at in range(0, len(queries), step))
    ]
    return np.concatenate([np.zeros((0, len(ks))), *parts])


def _precisions(
    cosine: NDArray[np.float64],
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    own: NDArray[np.intp],
    ks: Sequence[int],
) -> NDArray[np.float64]:
    """Precision (n, len(ks)) of n queries; their similarities are overwritten."""
    hit = left[:, None] == right[None, :]
    cosine -= TIE_TOLERANCE * hit
    known = np.flatnonzero(own >= 0)
    cosine[known, own[known]] = -np.inf
    nearest = np.argpartition(-cosine, max(ks) - 1, axis=1)[:, : max(ks)]
    order = np.argsort(-np.take_along_axis(cosine, nearest, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, axis=1)
    found = np.cumsum(np.take_along_axis(hit, nearest, axis=1), axis=1)
    return np.stack([found[:, k - 1] / k for k in ks], axis=1)
