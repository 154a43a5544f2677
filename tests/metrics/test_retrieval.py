"""Retrieval: by hand, degenerate, and against a plain loop over the full pool."""

import numpy as np
import pytest

from g2dbench.metrics import retrieval as r


def slow_ranks(query, pool, query_groups, pool_groups):
    """The definition as a loop: non-matches at least as similar as the best match, plus 1."""
    found = []
    for q, group in zip(query, query_groups, strict=True):
        cosine = pool @ q / np.linalg.norm(pool, axis=1) / np.linalg.norm(q)
        hit = np.array([other == group for other in pool_groups])
        found.append(1 + int((cosine[~hit] >= cosine[hit].max() - r.TIE_TOLERANCE).sum()))
    return found


def test_ranks_worked_by_hand():
    similarity = [[0.9, 0.5, 0.1], [0.8, 0.7, 0.9], [0.3, 0.2, 0.3]]
    assert r.ranks_from_similarity(similarity, [0, 1, 2], [0, 1, 2]).tolist() == [1, 3, 2]


def test_a_constant_model_ranks_last():
    assert r.ranks_from_similarity(np.zeros((3, 3)), [0, 1, 2], [0, 1, 2]).tolist() == [3, 3, 3]
    ones = np.ones((20, 4))
    assert set(r.recalls(ones, ones, np.arange(20)).values()) == {0.0}


def test_any_report_of_the_same_study_is_a_match():
    similarity = [[0.1, 0.9, 0.5]]
    assert r.ranks_from_similarity(similarity, ["s"], ["s", "t", "u"]).tolist() == [3]
    assert r.ranks_from_similarity(similarity, ["s"], ["s", "s", "u"]).tolist() == [1]


def test_same_study_or_identical_report_is_a_match():
    query = [["study 1", "normal"]]
    pool = [["study 1", "normal"], ["study 2", "normal"], ["study 3", "study 1"]]
    similarity = [[0.1, 0.7, 0.9]]
    assert r.ranks_from_similarity(similarity, query, pool).tolist() == [2]
    pool[0][1] = "worse"
    assert r.ranks_from_similarity([[0.8, 0.7, 0.9]], query, pool).tolist() == [2]
    assert r.ranks_from_similarity([[0.8, 0.7, 0.1]], query, pool).tolist() == [1]


def test_recalls_of_both_directions():
    images = np.eye(12)
    texts = np.roll(np.eye(12), 1, axis=0) + 0.5 * np.eye(12)
    found = r.recalls(images, texts, np.arange(12))
    assert found["image_to_text_r1"] == found["text_to_image_r1"] == 0.0
    assert found["image_to_text_r5"] == found["text_to_image_r10"] == 1.0
    assert set(r.recalls(images, images, np.arange(12)).values()) == {1.0}
    assert r.recall_values([1, 5, 6], 5).tolist() == [1, 1, 0]


def test_directions_are_not_swapped():
    images, texts = np.array([[1.0, 0], [0.9, 0.1]]), np.array([[1.0, 0], [0, 1.0]])
    found = r.recalls(images, texts, [0, 1], ks=(1,))
    assert found == {"image_to_text_r1": 0.5, "text_to_image_r1": 1.0}


@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_the_loop_on_random_embeddings_with_identical_reports(seed):
    rng = np.random.default_rng(seed)
    query, pool = rng.normal(size=(40, 6)), rng.integers(-1, 2, (55, 6)).astype(np.float32)
    pool[np.abs(pool).sum(axis=1) == 0] = 1
    query_groups, pool_groups = rng.integers(0, 10, 40), np.arange(55) % 10
    expected = slow_ranks(query, pool.astype(float), query_groups, pool_groups)
    assert r.ranks(query, pool, query_groups, pool_groups).tolist() == expected


def test_ranks_do_not_depend_on_the_chunk(monkeypatch):
    rng = np.random.default_rng(5)
    texts = np.repeat(rng.normal(size=(11, 64)), 9, axis=0).astype(np.float32)
    images = rng.normal(size=(99, 64)).astype(np.float32)
    groups = np.arange(99)
    whole = r.ranks(images, texts, groups, groups)
    for cells in (99, 99 * 7, 99 * 50):
        monkeypatch.setattr(r, "_MAX_ELEMENTS", cells)
        assert np.array_equal(r.ranks(images, texts, groups, groups), whole)


def test_recall_without_pairs_is_undefined():
    empty = np.zeros((0, 3))
    assert np.isnan(list(r.recalls(empty, empty, []).values())).all()


@pytest.mark.parametrize(
    ("query", "pool", "groups", "others", "words"),
    [
        ([[0.0, 0.0]], [[1.0, 0.0]], [0], [0], "no direction"),
        ([[np.nan, 0.0]], [[1.0, 0.0]], [0], [0], "not finite"),
        ([[1.0, 0.0]], [[1.0, 0.0]], [0], [1], "no matching item"),
        ([[1.0, 0.0]], [[1.0, 0.0, 0.0]], [0], [0], "fit"),
        ([[1.0, 0.0]], [[1.0, 0.0]], [0, 1], [0], "fit"),
        ([[1.0, 0.0]], [[1.0, 0.0]], [None], [None], "missing"),
        ([1.0, 0.0], [[1.0, 0.0]], [0], [0], "items, width"),
        ([[1.0, 0.0]], [[1.0, 0.0]], [0], [[0, 0]], "kinds"),
    ],
)
def test_broken_input_is_refused_with_the_reason(query, pool, groups, others, words):
    with pytest.raises(ValueError, match=words):
        r.ranks(query, pool, groups, others)


def test_broken_similarities_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        r.ranks_from_similarity([[1.0]], [0, 1], [0])
    with pytest.raises(ValueError, match="not finite"):
        r.ranks_from_similarity([[np.nan]], [0], [0])


def test_statistics_of_ranks_worked_by_hand():
    rank = [1, 3, 8, 2]
    once = np.ones((1, 4), int)
    found = {name: f(once)[0] for name, f in r.retrieval_statistics(rank).items()}
    assert found == {
        "r1": 0.25, "r5": 0.75, "r10": 1.0,
        "mrr": pytest.approx((1 + 1 / 3 + 1 / 8 + 1 / 2) / 4), "median_rank": 2.5,
    }  # fmt: skip
    assert r.weighted_median(rank, np.array([[1, 1, 1, 0], [0, 0, 0, 0]])).tolist() == [
        3.0,
        pytest.approx(np.nan, nan_ok=True),
    ]


def test_ranks_below_1_and_no_rank():
    with pytest.raises(ValueError, match="from 1"):
        r.retrieval_statistics([0, 1])
    none = np.zeros((2, 0), int)
    assert all(np.isnan(f(none)).all() for f in r.retrieval_statistics([]).values())


def test_a_thousand_medians_and_means_are_those_of_the_repeated_queries():
    rng = np.random.default_rng(0)
    rank = rng.integers(1, 30, 15)
    weights = rng.integers(0, 4, (1000, 15))
    found = {name: f(weights) for name, f in r.retrieval_statistics(rank).items()}
    for b, row in enumerate(weights):
        again = np.repeat(rank, row)
        assert found["median_rank"][b] == np.median(again)
        assert found["mrr"][b] == pytest.approx((1 / again).mean(), abs=1e-12)
        assert found["r5"][b] == pytest.approx((again <= 5).mean(), abs=1e-12)


def test_copies_of_a_report_are_matches_by_group_and_wrong_in_the_strict_count():
    texts = np.array([[1.0, 0], [1.0, 0], [0, 1.0]])
    images = np.array([[1.0, 0.1], [0.9, 0.1], [0, 1.0]])
    reports = ["normal", "normal", "edema"]
    assert r.ranks(images, texts, reports, reports).tolist() == [1, 1, 1]
    assert r.strict_ranks(images, texts).tolist() == [2, 2, 1]


def slow_precisions(query, pool, classes, others, ks, own):
    """The k nearest by a full sort in which items of other classes precede ties."""
    rows = []
    for q, (vector, name) in enumerate(zip(query, classes, strict=True)):
        cosine = pool @ vector / np.linalg.norm(pool, axis=1) / np.linalg.norm(vector)
        items = [m for m in range(len(pool)) if m != own[q]]
        items.sort(key=lambda m: (-round(cosine[m], 8), others[m] == name))
        rows.append([np.mean([others[m] == name for m in items[:k]]) for k in ks])
    return np.array(rows)


def test_precision_at_k_worked_by_hand():
    pool = np.array([[1.0, 0], [0.9, 0.1], [0.5, 0.5], [0, 1.0]])
    found = r.class_precisions([[1.0, 0]], pool, ["a"], ["a", "b", "a", "b"], (1, 2, 3, 4))
    assert found.tolist() == [[1, 1 / 2, 2 / 3, 2 / 4]]
    without = r.class_precisions([[1.0, 0]], pool, ["a"], ["a", "b", "a", "b"], (1, 2), [0])
    assert without.tolist() == [[0, 1 / 2]]


def test_a_constant_model_retrieves_the_other_classes_first():
    ones = np.ones((6, 2))
    found = r.class_precisions(ones[:1], ones, ["a"], ["a", "a", "b", "b", "b", "b"], (2, 4, 6))
    assert found.tolist() == [[0, 0, 1 / 3]]


def test_a_thousand_precisions_equal_the_loop_and_do_not_depend_on_the_chunk(monkeypatch):
    rng = np.random.default_rng(1)
    ks = (1, 3, 10)
    for _ in range(10):
        pool = rng.integers(-1, 2, (30, 4)).astype(float)
        pool[np.abs(pool).sum(axis=1) == 0] = 1
        classes = rng.integers(0, 3, 30)
        own = np.where(rng.random(30) < 0.5, np.arange(30), -1)
        found = r.class_precisions(pool, pool, classes, classes, ks, own)
        assert np.array_equal(found, slow_precisions(pool, pool, classes, classes, ks, own))
        monkeypatch.setattr(r, "_MAX_ELEMENTS", 90)
        assert np.array_equal(found, r.class_precisions(pool, pool, classes, classes, ks, own))


def test_more_neighbors_than_items_are_refused():
    one = np.ones((1, 2))
    for ks, own in (((2,), None), ((1,), [0]), ((0,), None), ((), None)):
        with pytest.raises(ValueError, match="needs 1 to"):
            r.class_precisions(one, one, ["a"], ["a"], ks, own)
    with pytest.raises(ValueError, match="do not fit"):
        r.class_precisions(one, one, ["a", "b"], ["a"], (1,))
