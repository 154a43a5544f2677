"""Scores of stored masks: every convention under its name, distances, broken rows."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from g2dbench.data.annotations import rle
from g2dbench.errors import BadResult
from g2dbench.evaluation.segmentation.scores import mask_statistics
from g2dbench.metrics.surface import surface_distances

Mask = NDArray[np.bool_]


def table(pairs: list[tuple[Mask, Mask]]) -> pd.DataFrame:
    rows = [
        {
            "id": f"i{n}", "patient": f"p{n}", "finding": "spot", "height": t.shape[0],
            "width": t.shape[1], "truth": rle.encode(t), "predicted": rle.encode(p),
        }
        for n, (t, p) in enumerate(pairs)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def values(found: pd.DataFrame, side: int = 224) -> dict[str, float]:
    return {name: s.value for name, s in mask_statistics(found, side).items()}


def box(size: tuple[int, int], y: int, x: int, side: int) -> Mask:
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_each_convention_by_hand() -> None:
    one, none = box((4, 4), 0, 0, 2), np.zeros((4, 4), bool)
    found = values(table([(one, box((4, 4), 0, 1, 2)), (none, none), (none, one)]))
    # positive image: 2 shared of 4 and 4; healthy images: right, and 4 pixels of false alarm
    assert found["dice"] == pytest.approx(0.5)
    assert found["iou"] == pytest.approx(2 / 6)
    assert found["dice_per_image"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["iou_per_image"] == pytest.approx((2 / 6 + 1 + 0) / 3)
    assert found["dice_foreground"] == pytest.approx(4 / 12)
    assert found["dice_pooled"] == pytest.approx((4 / 12 + 2 * 38 / (44 + 40)) / 2)
    assert found["iou_smoothed"] == pytest.approx((3 / 7 + 1 + 1 / 5) / 3)


def test_distances_scale_with_the_image_and_count_positive_images_only() -> None:
    truth, predicted = box((100, 50), 10, 10, 20), box((100, 50), 16, 10, 20)
    distances = surface_distances(predicted, truth)
    none = np.zeros((100, 50), bool)
    statistics = mask_statistics(table([(truth, predicted), (none, predicted)]), 200)
    assert statistics["hd95"].value == pytest.approx(2 * distances.hd95)
    assert statistics["assd"].value == pytest.approx(2 * distances.assd)
    assert statistics["hd95"].n == 1
    missed = values(table([(truth, none)]), 200)
    assert missed["hd95"] == pytest.approx(2 * np.hypot(100, 50))


def test_without_ground_truth_or_with_broken_masks_the_image_is_named() -> None:
    whole = table([(box((4, 4), 0, 0, 2),) * 2])
    with pytest.raises(BadResult, match="no ground truth for image 'i0'"):
        mask_statistics(whole.assign(truth=None), 224)
    with pytest.raises(BadResult):
        mask_statistics(whole.assign(predicted="!!"), 224)
    with pytest.raises(BadResult, match="lack the columns"):
        mask_statistics(whole.drop(columns="height"), 224)
