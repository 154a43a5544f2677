"""Maps without a threshold: by hand, degenerate, and against scikit-learn and brute force."""

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from g2dbench.metrics import heatmap as h
from g2dbench.metrics.grounding import overlap_at

NAN = float("nan")


def random_pair(rng, side=7):
    """A map with ties and at times NaN, and a mask of one or more regions."""
    relevance = rng.integers(0, 12, (side, side)) / 11
    if rng.random() < 0.3:
        relevance[rng.random((side, side)) < 0.2] = NAN
    return relevance, rng.random((side, side)) < rng.choice([0.1, 0.3, 0.6])


def slow_curve(maps, masks):
    """False positive rate and mean overlap over all regions at every distinct value."""
    cuts = np.unique(np.concatenate([np.nan_to_num(m, nan=-1).ravel() for m in maps]))[::-1]
    points = [(0.0, 0.0)]
    for cut in cuts:
        overlaps, false, negatives = [], 0, 0
        for relevance, mask in zip(maps, masks, strict=True):
            predicted = np.nan_to_num(relevance, nan=-1) >= cut
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            overlaps += [predicted[regions == r].mean() for r in range(1, count + 1)]
            false, negatives = false + (predicted & ~mask).sum(), negatives + (~mask).sum()
        points.append((false / negatives, np.mean(overlaps)))
    return np.array(points).T


def slow_aupro(maps, masks, limit):
    x, y = slow_curve(maps, masks)
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / limit


def test_a_perfect_and_an_inverted_map():
    mask = np.zeros((6, 6), bool)
    mask[1:3, 1:3] = mask[4, 4] = True
    found = h.map_values(mask.astype(float), mask)
    assert set(found) == set(h.MAP_METRICS)
    assert found["pixel_auc"] == found["pixel_ap"] == found["share_inside"] == 1
    assert found["aupro"] == pytest.approx(1)
    assert found["pointing_game"] == 1
    assert np.isnan(found["cnr"])  # two constants: no noise
    worst = h.map_values(1.0 - mask, mask)
    assert worst["pixel_auc"] == worst["aupro"] == worst["share_inside"] == 0


def test_aupro_by_hand():
    # one region of 1 pixel, one of 2. The first is found at once, the second after 1 of 3 others.
    mask = np.array([[True, False, False, True, True, False]])
    relevance = np.array([[0.9, 0.8, 0.2, 0.5, 0.5, 0.1]])
    # overlap 1/2 up to a false positive rate of 1/3, then 1
    assert h.aupro(relevance, mask, 1.0) == pytest.approx(1 / 3 * 0.5 + 2 / 3)
    assert h.aupro(relevance, mask) == pytest.approx(0.5)
    assert h.aupro(np.ones((1, 6)), mask) == pytest.approx(0.15)


def test_without_ground_truth_or_background_values_are_undefined():
    relevance = np.arange(9.0).reshape(3, 3)
    assert np.isnan(list(h.map_values(relevance, np.zeros((3, 3), bool)).values())).all()
    full = np.ones((3, 3), bool)
    assert np.isnan([h.pixel_auc(relevance, full), h.aupro(relevance, full)]).all()
    assert h.pixel_ap(relevance, full) == h.share_inside(relevance, full) == 1
    assert h.pixel_auc(np.full((3, 3), NAN), np.eye(3, dtype=bool)) == 0.5


def test_pixels_outside_the_crop_rank_below_all_others():
    mask = np.array([[True, False, True, False]])
    relevance = np.array([[NAN, 0.0, 0.3, 0.1]])
    assert h.pixel_auc(relevance, mask) == 2 / 4
    assert h.share_inside(relevance, mask) == pytest.approx(0.3 / 0.4)


def test_hundreds_of_random_maps_equal_the_references():
    rng = np.random.default_rng(0)
    for _ in range(250):
        relevance, mask = random_pair(rng)
        if mask.any() and not mask.all():
            flat = np.nan_to_num(relevance, nan=-1).ravel()
            found = h.map_values(relevance, mask)
            assert found["pixel_auc"] == pytest.approx(roc_auc_score(mask.ravel(), flat))
            assert found["pixel_ap"] == pytest.approx(average_precision_score(mask.ravel(), flat))
            if rng.random() < 0.3:
                limit = rng.choice([0.05, 0.3, 1.0])
                expected = slow_aupro([relevance], [mask], limit)
                assert h.aupro(relevance, mask, limit) == pytest.approx(expected, abs=1e-12)


def test_pooled_aupro_equals_brute_force_over_all_images_of_each_resample():
    rng = np.random.default_rng(1)
    pairs = [random_pair(rng) for _ in range(6)]
    pairs[2] = (pairs[2][0], np.zeros((7, 7), bool))
    levels = (np.arange(13) / 11 - 0.5 / 11).tolist()
    pooled = h.PooledAupro([h.region_overlap_at(*pair, levels) for pair in pairs], 0.3)
    weights = rng.multinomial(6, np.full(6, 1 / 6), size=25)
    for row, value in zip(weights, pooled(weights), strict=True):
        again = [pairs[i] for i in np.repeat(np.arange(6), row)]
        maps, masks = zip(*again, strict=True)
        assert value == pytest.approx(slow_aupro(maps, masks, 0.3), abs=1e-12)
    assert np.isnan(pooled(np.array([[0, 0, 2, 0, 0, 0], [0] * 6]))).all()
    assert np.isnan(h.PooledAupro([])(np.zeros((1, 0), int))).all()


def test_entropy_by_hand_and_against_scipy():
    assert h.entropy([[0, 3], [0, 0]]) == 0
    assert h.entropy(np.ones((4, 4))) == pytest.approx(np.log(16))
    assert h.normalized_entropy(np.ones((4, 4))) == pytest.approx(1)
    assert h.normalized_entropy([[1, 1, NAN]]) == pytest.approx(1)
    assert np.isnan([h.entropy(np.zeros(3)), h.normalized_entropy([2.0])]).all()
    rng = np.random.default_rng(2)
    for _ in range(1000):
        weights = rng.random(9) * (rng.random(9) < 0.7)
        expected = stats.entropy(weights) if weights.any() else NAN
        assert h.entropy(weights) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_coverage_is_the_share_of_predicted_pixels():
    overlap = overlap_at(np.array([[0.1, 0.6], [0.9, NAN]]), np.eye(2, dtype=bool), [0.2, 0.7])
    assert h.coverage(overlap, 4).tolist() == [0.5, 0.25]


def test_broken_input_is_refused():
    mask = np.eye(2, dtype=bool)
    for function in (h.share_inside, lambda r, _: h.entropy(r)):
        with pytest.raises(ValueError, match="negative or infinite"):
            function(-np.ones((2, 2)), mask)
    with pytest.raises(ValueError, match="infinite"):
        h.pixel_auc(np.full((2, 2), np.inf), mask)
    with pytest.raises(ValueError, match="boolean"):
        h.aupro(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        h.aupro(np.ones((2, 2)), mask, 0)
    with pytest.raises(ValueError, match="increasing"):
        h.region_overlap_at(np.ones((2, 2)), mask, [0.5, 0.5])
