"""Alignment of features: by hand, degenerate, and against the definitions with whole kernels."""

import numpy as np
import pytest

from g2dbench.errors import BadResult
from g2dbench.metrics import alignment as a


def kernel_cka(first, second):
    """CKA by the N x N kernels and the centering matrix."""
    n = len(first)
    center = np.eye(n) - 1 / n
    k, l = (center @ (x @ x.T) @ center for x in (first, second))  # noqa: E741
    return (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())


def kernel_hsic(first, second):
    """Song et al. 2012, eq. 5, by the N x N kernels."""
    n = len(first)
    k, l = (x @ x.T * (1 - np.eye(n)) for x in (first, second))  # noqa: E741
    ones = np.ones(n)
    whole = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + whole - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3))


def random_features(rng, items):
    shared = rng.normal(size=(items, 3))
    return [
        shared @ rng.normal(size=(3, width)) + rng.normal(size=(items, width)) + rng.normal()
        for width in rng.integers(1, 12, 2)
    ]


def test_cka_by_hand():
    first = np.array([[1.0], [-1.0], [0.0]])
    assert a.linear_cka(first, first) == pytest.approx(1)
    assert a.linear_cka(first, 3 - 2 * first) == pytest.approx(1)
    # centered: (1, -1, 0) and (1, 1, -2) are orthogonal
    assert a.linear_cka(first, [[1.0], [1.0], [-2.0]]) == pytest.approx(0)


def test_a_thousand_random_features_equal_the_definitions():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        first, second = random_features(rng, int(rng.integers(4, 15)))
        assert a.linear_cka(first, second) == pytest.approx(kernel_cka(first, second), abs=1e-10)
        own = kernel_hsic(first, first) * kernel_hsic(second, second)
        found = a.debiased_cka(first, second)
        if own > 1e-9 and kernel_hsic(first, first) > 0:
            expected = kernel_hsic(first, second) / np.sqrt(own)
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_rotation_and_scale_do_not_matter():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(50, 6))
    rotated = 7 * features @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for measure in (a.linear_cka, a.debiased_cka):
        assert measure(features, rotated) == pytest.approx(1)
    assert a.mutual_neighbors(features, rotated, 5).tolist() == [1] * 50


def test_unrelated_wide_features_look_alike_only_to_the_biased_estimate():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 60, 300))
    assert a.linear_cka(first, second) == pytest.approx(300 / 360, abs=0.03)
    assert abs(a.debiased_cka(first, second)) < 0.1
    assert a.mutual_neighbors(first, second, 6).mean() == pytest.approx(6 / 59, abs=0.06)


def test_half_precision_and_chunks_give_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 40, 5)).astype(np.float16)
    whole = a.linear_cka(first, second), a.debiased_cka(first, second)
    near = a.mutual_neighbors(first, second, 4)
    monkeypatch.setattr(a, "_MAX_ELEMENTS", 90)
    assert (a.linear_cka(first, second), a.debiased_cka(first, second)) == pytest.approx(whole)
    assert np.array_equal(a.mutual_neighbors(first, second, 4), near)


def test_neighbors_by_hand():
    # around a circle; in the second features, items 1 and 2 change places
    angles, others = np.array([0.0, 0.2, 0.5, 2.0]), np.array([0.0, 0.5, 0.2, 2.0])
    circle = [np.stack([np.cos(x), np.sin(x)], axis=1) for x in (angles, others)]
    # nearest: 0 -> 1, 1 -> 0, 2 -> 1, 3 -> 2; then 0 -> 2, 1 -> 2, 2 -> 0, 3 -> 1
    assert a.mutual_neighbors(*circle, 1).tolist() == [0, 0, 0, 0]
    assert a.mutual_neighbors(*circle, 2).tolist() == [1, 1, 1, 1]
    same = np.ones((4, 2))
    assert a.mutual_neighbors(same, circle[0], 1).tolist() == [1, 1, 0, 0]


def test_a_thousand_neighborhoods_equal_a_loop():
    rng = np.random.default_rng(4)
    for _ in range(40):
        first, second = rng.normal(size=(2, 25, 4))
        found = a.mutual_neighbors(first, second, 5)
        sets = []
        for x in (first, second):
            unit = x / np.linalg.norm(x, axis=1, keepdims=True)
            order = np.argsort(-(unit @ unit.T), axis=1)
            sets.append([set(row[row != i][:5]) for i, row in enumerate(order)])
        assert found.tolist() == [len(p & q) / 5 for p, q in zip(*sets, strict=True)]


def test_constant_few_and_broken_features():
    one = np.ones((5, 2))
    some = np.arange(10.0).reshape(5, 2)
    assert np.isnan([a.linear_cka(one, some), a.debiased_cka(one, some)]).all()
    assert np.isnan([a.linear_cka(some[:0], some[:0]), a.debiased_cka(some[:3], some[:3])]).all()
    with pytest.raises(ValueError, match="items, width"):
        a.linear_cka(some, some[:3])
    with pytest.raises(BadResult, match="row 1"):
        a.debiased_cka(some, np.where(np.arange(10).reshape(5, 2) == 3, np.nan, some))
    with pytest.raises(BadResult, match="row 0"):
        a.mutual_neighbors(some * 0, some, 2)
    for k in (0, 5):
        with pytest.raises(ValueError, match="neighbors"):
            a.mutual_neighbors(some + 1, some + 1, k)
