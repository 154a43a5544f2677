"""FROC: by hand, degenerate, and against a loop over thresholds on repeated images."""

import numpy as np
import pytest

from g2dbench.metrics.box_matching import SIZES, ImageBoxes
from g2dbench.metrics.froc import RATES, CenterRule, Froc, IouRule

BOX, OTHER, FAR = [10, 10, 30, 30], [50, 50, 70, 70], [80, 80, 90, 90]
EMPTY = ImageBoxes([], [], [])
RULES = [IouRule(), CenterRule()]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (area - both)


def slow_sensitivities(images, rule, rates):
    """One pass over all thresholds; in each, every image is matched again by a loop."""
    scores = np.unique(np.concatenate([np.zeros(0), *(i.scores for i in images)]))
    boxes = sum(len(image.truth) for image in images)
    if not boxes:
        return np.full(len(rates), np.nan)
    best = np.zeros(len(rates))
    for threshold in scores:
        found = false = 0
        for image in images:
            taken = set()
            for k in np.argsort(-image.scores, kind="stable"):
                if image.scores[k] >= threshold:
                    new, wrong = match(image, image.detected[k], taken, rule)
                    found, false = found + new, false + wrong
        for r, rate in enumerate(rates):
            if false <= rate * len(images):
                best[r] = max(best[r], found / boxes)
    return best


def match(image, box, taken, rule):
    """Newly found boxes and false positives of one detection; `taken` is extended."""
    if isinstance(rule, CenterRule):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        hit = {g for g, t in enumerate(image.truth) if t[0] <= x <= t[2] and t[1] <= y <= t[3]}
        new = hit - taken
        taken |= new
        return len(new), not hit
    overlaps = [-1 if g in taken else iou(box, truth) for g, truth in enumerate(image.truth)]
    if not overlaps or max(overlaps) < 0.5:
        return 0, 1
    taken.add(int(np.argmax(overlaps)))
    return 1, 0


def random_images(rng, count):
    images = []
    for _ in range(count):
        corner = rng.uniform(0, 80, (rng.integers(0, 4), 2))
        truth = np.hstack([corner, corner + rng.uniform(5, 40, corner.shape)])
        near = np.repeat(truth, 2, axis=0) + rng.normal(0, 3, (2 * len(truth), 1))
        corner = rng.uniform(0, 80, (rng.integers(0, 4), 2))
        found = rng.permutation(np.vstack([near, np.hstack([corner, corner + 20])]))
        images.append(ImageBoxes(found, rng.integers(0, 9, len(found)) / 8, truth))
    return images


@pytest.mark.parametrize("rule", RULES)
def test_worked_by_hand(rule):
    # 4 images, 2 boxes. By score: found, false positive, found. 1/4 per image allows one.
    images = [ImageBoxes([BOX, FAR, OTHER], [0.9, 0.8, 0.7], [BOX, OTHER]), *[EMPTY] * 3]
    froc = Froc(images, rule, (0.125, 0.25))
    assert froc.sensitivity(np.ones((1, 4), int)).tolist() == [[0.5, 1.0]]
    # twice the image and nothing else: two false positives in two images are too many
    assert froc.sensitivity(np.array([[2, 0, 0, 0], [1, 3, 0, 4]])).tolist() == [
        [0.5, 0.5],
        [1.0, 1.0],
    ]


def test_a_second_detection_of_a_box_is_false_by_iou_and_nothing_by_center():
    image = ImageBoxes([BOX, BOX, OTHER], [0.9, 0.8, 0.7], [BOX, OTHER])
    once = np.ones((1, 1), int)
    assert Froc([image], IouRule(), (0.5, 1)).sensitivity(once).tolist() == [[0.5, 1.0]]
    assert Froc([image], CenterRule(), (0.5, 1)).sensitivity(once).tolist() == [[1.0, 1.0]]


def test_one_center_may_find_two_boxes_and_an_edge_is_inside():
    image = ImageBoxes([[10, 10, 30, 30]], [0.9], [[0, 0, 20, 20], [15, 15, 60, 60]])
    assert Froc([image], CenterRule()).sensitivity(np.ones((1, 1), int)).tolist() == [[1.0] * 7]


@pytest.mark.parametrize("rule", RULES)
def test_equal_scores_share_a_threshold(rule):
    images = [ImageBoxes([BOX, FAR], [0.5, 0.5], [BOX])]
    assert Froc(images, rule, (0.5, 1)).sensitivity(np.ones((1, 1), int)).tolist() == [[0, 1]]


@pytest.mark.parametrize("rule", RULES)
def test_no_detection_is_0_and_no_ground_truth_is_undefined(rule):
    once = np.ones((1, 1), int)
    assert Froc([ImageBoxes([], [], [BOX])], rule).sensitivity(once).tolist() == [[0] * 7]
    for image in (EMPTY, ImageBoxes([BOX], [0.4], [])):
        assert np.isnan(Froc([image], rule).sensitivity(once)).all()
    assert np.isnan(Froc([], rule).sensitivity(np.ones((1, 0), int))).all()
    with pytest.raises(ValueError, match="positive"):
        Froc([EMPTY], rule, (0, 1))
    with pytest.raises(ValueError, match="weights"):
        Froc([EMPTY], rule).sensitivity(np.ones((1, 2), int))


@pytest.mark.parametrize("rule", RULES)
def test_five_hundred_random_sets_equal_the_loop_over_thresholds(rule):
    rng = np.random.default_rng(0)
    for _ in range(50):
        images = random_images(rng, 4)
        weights = rng.multinomial(4, np.full(4, 1 / 4), size=10)
        found = Froc(images, rule).sensitivity(weights)
        for row, values in zip(weights, found, strict=True):
            again = [image for image, n in zip(images, row, strict=True) for _ in range(n)]
            expected = slow_sensitivities(again, rule, RATES)
            assert values == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("rule", [IouRule, CenterRule])
def test_a_stratum_counts_its_own_boxes(rule):
    image = ImageBoxes([BOX, FAR], [0.5, 0.9], [BOX, [100, 100, 300, 300]])
    once = np.ones((1, 1), int)
    for size, expected in (("small", [0.0, 1.0]), ("large", [0.0, 0.0])):
        froc = Froc([image], rule(size=SIZES[size]), (0.5, 1))
        assert froc.sensitivity(once).tolist() == [expected], size
    assert np.isnan(Froc([image], rule(size=SIZES["medium"])).sensitivity(once)).all()


def test_statistics_by_name_and_in_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    froc = Froc(random_images(rng, 9), IouRule())
    weights = rng.integers(0, 3, (7, 9))
    whole = froc.sensitivity(weights)
    monkeypatch.setattr("g2dbench.metrics.froc._MAX_ELEMENTS", 1)
    found = {name: statistic(weights) for name, statistic in froc.statistics().items()}
    assert np.array_equal(found["froc"], whole.mean(axis=1))
    assert np.array_equal(found["sensitivity_at_0.125"], whole[:, 0])
    assert np.array_equal(found["sensitivity_at_8"], whole[:, 6])
    assert len(found) == 8
