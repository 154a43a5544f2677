"""Average precision: by hand, degenerate, and against pycocotools on repeated images."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from g2dbench.metrics.detection import (
    COCO_IOU_THRESHOLDS,
    IOU_THRESHOLDS,
    SIZES,
    CocoMatches,
    ImageBoxes,
    coco_map,
)
from g2dbench.metrics.detection import map_skip_empty as skip_empty

BOX = [10, 10, 30, 30]
OTHER = [50, 50, 70, 70]
NOTHING = ImageBoxes([], [], [])


def random_images(seed, count, levels=None):
    """Ground truth boxes, shifted copies of them and false positives; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        corner = rng.uniform(0, 80, (rng.integers(0, 4), 2))
        truth = np.hstack([corner, corner + rng.uniform(5, 40, corner.shape)])
        near = np.repeat(truth, 2, axis=0)
        near = near + rng.normal(0, 2, near.shape)
        corner = rng.uniform(0, 80, (rng.integers(0, 4), 2))
        found = np.vstack([near, np.hstack([corner, corner + 20])])
        found = rng.permutation(found)[: rng.integers(0, 8)]
        score = rng.random(len(found))
        score = score if levels is None else np.round(score * levels) / levels
        images.append(ImageBoxes(found, score, truth))
    return images


def as_coco(images, name):
    notes = []
    for image, boxes in enumerate(images):
        rows = getattr(boxes, name)
        for k, (x0, y0, x1, y1) in enumerate(rows):
            size = [x1 - x0, y1 - y0]
            note = {"id": len(notes) + 1, "image_id": image, "category_id": 1, "iscrowd": 0}
            score = boxes.scores[k] if name == "detected" else 0
            notes.append(
                {**note, "bbox": [x0, y0, *size], "area": size[0] * size[1]} | {"score": score}
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": 1}],
        "annotations": notes,
    }
    coco.createIndex()
    return coco


def reference_ap(images, size=None):
    """AP (T,) by COCOeval on the images as they are, each with its own id."""
    area = ("all", "small", "medium", "large").index(size or "all")
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(as_coco(images, "truth"), as_coco(images, "detected"), "bbox")
        run.params.iouThrs = np.array(IOU_THRESHOLDS)
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, 0, area, 2]
    return np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))


def repeated(images, row):
    return [image for image, times in zip(images, row, strict=True) for _ in range(times)]


def test_a_true_positive_ranked_before_a_false_positive_scores_1_and_after_it_one_half():
    first = ImageBoxes([BOX, OTHER], [0.9, 0.8], [BOX])
    second = ImageBoxes([BOX, OTHER], [0.8, 0.9], [BOX])
    assert coco_map([first]).value == pytest.approx(1.0)
    assert coco_map([second]).value == pytest.approx(0.5)


def test_half_of_the_boxes_found_gives_the_51_recalls_up_to_one_half():
    assert coco_map([ImageBoxes([BOX], [0.9], [BOX, OTHER])]).value == pytest.approx(51 / 101)


def test_a_shifted_box_counts_up_to_its_iou():
    # 20 x 20 shifted by 5: intersection 300, union 500, IoU .6
    found = coco_map([ImageBoxes([[15, 10, 35, 30]], [0.9], [BOX])])
    assert [round(ap) for ap in found.per_iou.values()] == [1, 1, 1, 1, 1, 0, 0, 0]
    assert tuple(found.per_iou) == IOU_THRESHOLDS
    assert found.value == pytest.approx(5 / 8)


def test_a_second_detection_of_the_same_box_is_a_false_positive():
    image = ImageBoxes([BOX, BOX, OTHER], [0.9, 0.8, 0.7], [BOX, OTHER])
    assert coco_map([image]).value == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_no_detection_is_0_and_no_ground_truth_is_undefined():
    missed, false_positive = ImageBoxes([], [], [BOX]), ImageBoxes([BOX], [0.5], [])
    assert coco_map([missed, missed]).value == 0.0
    for images in ([false_positive], [NOTHING], []):
        assert np.isnan(coco_map(images).value)
        weights = np.ones((2, len(images)), dtype=int)
        assert np.isnan(CocoMatches(images).mean_average_precision(weights)).all()
    assert CocoMatches([missed]).mean_average_precision(np.array([[1], [0]]))[0] == 0.0
    assert np.isnan(CocoMatches([missed]).mean_average_precision(np.array([[0]]))[0])


def test_zero_resamples_give_no_value():
    assert CocoMatches([NOTHING]).average_precision(np.zeros((0, 1), int)).shape == (0, 8)


def test_skipping_empty_images_ignores_false_positives_and_missed_findings():
    hit = ImageBoxes([BOX], [0.5], [BOX])
    images = [hit, ImageBoxes([BOX], [0.9], []), ImageBoxes([], [], [BOX]), NOTHING]
    assert skip_empty(images).value == pytest.approx(1.0)
    assert coco_map(images).value == pytest.approx(0.5 * 51 / 101)
    assert np.isnan(skip_empty(images[1:]).value)


def test_only_the_100_best_detections_of_an_image_count():
    boxes = [OTHER] * 100 + [BOX]
    falling = np.linspace(1, 0.1, 101)
    assert coco_map([ImageBoxes(boxes, falling, [BOX])]).value == 0.0
    assert coco_map([ImageBoxes(boxes, falling[::-1], [BOX])]).value == pytest.approx(1.0)


@pytest.mark.parametrize("levels", [None, 3])
def test_map_equals_pycocotools(levels):
    images = random_images(1, 25, levels)
    expected = reference_ap(images)
    found = coco_map(images)
    assert list(found.per_iou.values()) == pytest.approx(expected, abs=1e-12)
    assert found.value == pytest.approx(expected.mean(), abs=1e-12)
    once = np.ones((1, 25), dtype=int)
    assert CocoMatches(images).average_precision(once)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_any_multiset_equals_pycocotools_on_the_images_repeated_under_new_ids(seed, levels):
    images = random_images(seed, 12, levels)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=12)
    found = CocoMatches(images).average_precision(weights)
    for row, values in zip(weights, found, strict=True):
        expected = reference_ap(repeated(images, row))
        assert values == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_tied_true_and_false_positives_of_an_image_interleave_as_in_the_repeated_set():
    # Counting all copies together would rank all true positives first.
    image = ImageBoxes([OTHER, BOX], [0.5, 0.5], [BOX])
    matches = CocoMatches([image, NOTHING])
    found = matches.average_precision(np.array([[3, 0], [1, 2]]))
    assert found[0] == pytest.approx(reference_ap([image] * 3), abs=1e-12)
    assert found[1] == pytest.approx(reference_ap([image]), abs=1e-12)


def test_images_with_detections_and_ground_truth_give_the_published_definition():
    images = random_images(5, 20)
    matches = CocoMatches(images)
    weights = np.random.default_rng(0).integers(0, 3, (6, 20))
    found = matches.mean_average_precision(weights * matches.detected_and_true)
    for row, value in zip(weights, found, strict=True):
        assert value == pytest.approx(skip_empty(repeated(images, row)).value, abs=1e-9)


def test_values_do_not_depend_on_how_resamples_are_chunked(monkeypatch):
    matches = CocoMatches(random_images(6, 15, 4))
    weights = np.random.default_rng(0).integers(0, 4, (9, 15))
    whole = matches.average_precision(weights)
    monkeypatch.setattr("g2dbench.metrics.detection._MAX_ELEMENTS", 1)
    assert np.array_equal(matches.average_precision(weights), whole)


@pytest.mark.parametrize(
    ("detected", "scores", "truth"),
    [
        ([BOX], [], []),
        ([BOX], [np.nan], []),
        ([[1, 2, 3]], [0.5], []),
        ([[0, 0, np.inf, 1]], [0.5], []),
        ([[5, 0, 1, 1]], [0.5], []),
        ([], [], [[1, 1, 1, 5]]),
    ],
)
def test_broken_boxes_are_refused(detected, scores, truth):
    with pytest.raises(ValueError):
        ImageBoxes(detected, scores, truth)


def test_weights_that_are_not_multiplicities_are_refused():
    matches = CocoMatches([NOTHING, NOTHING])
    for weights in (np.ones((1, 3), int), np.ones((1, 2)), np.array([[-1, 1]]), np.ones(2, int)):
        with pytest.raises(ValueError, match="weights"):
            matches.average_precision(weights)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [None, 3])
def test_strata_by_size_equal_pycocotools_on_the_repeated_images(size, levels):
    small = random_images(11, 14, levels)
    images = [ImageBoxes(i.detected * 2, i.scores, i.truth * 2) for i in small[:7]] + small[7:]
    matches = CocoMatches(images, size=SIZES[size])
    weights = np.random.default_rng(0).multinomial(14, np.full(14, 1 / 14), size=10)
    for row, values in zip(weights, matches.average_precision(weights), strict=True):
        expected = reference_ap(repeated(images, row), size)
        assert values == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_small_and_large_lesions_by_hand():
    # 20 x 20 is small; the large box is missed, the small one is found
    image = ImageBoxes([BOX], [0.9], [BOX, [0, 0, 200, 200]])
    once = np.ones((1, 1), int)
    found = {
        size: CocoMatches([image], size=limits).mean_average_precision(once)[0]
        for size, limits in SIZES.items()
    }
    assert found == {"small": pytest.approx(1.0), "medium": pytest.approx(np.nan, nan_ok=True),
                     "large": 0.0}  # fmt: skip


def test_statistics_are_the_map_and_the_ap_of_each_threshold():
    images = random_images(3, 20)
    matches = CocoMatches(images, COCO_IOU_THRESHOLDS)
    weights = np.random.default_rng(1).integers(0, 3, (4, 20))
    found = {name: statistic(weights) for name, statistic in matches.statistics().items()}
    per_iou = matches.average_precision(weights)
    assert list(found) == ["map", *(f"ap{t}" for t in range(50, 100, 5))]
    assert np.array_equal(found["map"], per_iou.mean(axis=1))
    assert np.array_equal(found["ap75"], per_iou[:, 5])
    skipping = CocoMatches(images).skipping_empty(np.ones((1, 20), int))
    assert skipping == pytest.approx([skip_empty(images).value], abs=1e-12)
