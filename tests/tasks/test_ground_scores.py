"""Scores of grounding: values by hand, means over images and findings, and broken rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import toy
from support.tasks.grounding import PROTOCOL, ground, patch, row, score

from g2dbench.errors import BadResult

single_thread = toy.single_thread


def test_measures_by_hand() -> None:
    grid = [[0.9, 0.6, 0.1, 0.2], [0.7, 0.4, 0.3, 0.2]] + [[0.1] * 4] * 2
    truth = [[0, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]
    scores = score(row(grid, truth))
    # predicted: .9, .6, .7; of these .6 and .7 are true, of three
    assert scores["dice"].value == pytest.approx(2 * 2 / 6)
    assert scores["iou"].value == pytest.approx(2 / 4)
    assert scores["recall"].value == pytest.approx(2 / 3)
    assert scores["pointing_game"].value == 0
    inside = np.array([0.6, 0.7, 0.4])
    outside = np.array([0.9, 0.1, 0.2, 0.3, 0.2] + [0.1] * 8)
    by_hand = (inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var())
    assert scores["cnr"].value == pytest.approx(by_hand, rel=1e-5)
    # just below .4 all four are predicted: Dice 2 x 3 / 7, IoU 3 / 4
    assert scores["oracle_dice"].value == pytest.approx(6 / 7)
    assert scores["oracle_iou"].value == pytest.approx(3 / 4)


def test_a_coarse_grid_is_resized_to_the_image_as_stored() -> None:
    truth = patch(0, 2, 0, 2, (4, 4))
    assert score(row([[1.0, 0], [0, 0]], truth))["dice"].value == 1.0
    # weights along a side are 1, 3/4, 1/4, 0: eight products pass .1, four of them true
    smooth = score(row([[1.0, 0], [0, 0]], truth, 0.1, resampling="bilinear"))["dice"]
    assert smooth.value == pytest.approx(2 * 4 / (8 + 4))


def test_the_mean_is_over_images_and_then_over_findings() -> None:
    truth = patch(0, 2, 0, 4, (4, 4))
    full, half = np.where(truth, 1.0, 0.0), np.where(patch(0, 1, 0, 4, (4, 4)), 1.0, 0.0)
    scores = score(
        row(full, truth, id="a", patient="a"),
        row(half, truth, id="b", patient="b"),
        row(half, truth, id="c", patient="c"),
        row(full, truth, id="c", patient="c", finding="dark"),
    )
    assert scores["recall:bright"].value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert scores["recall:dark"].value == 1.0
    assert scores["recall"].value == pytest.approx((2 / 3 + 1) / 2)
    assert [scores[n].n for n in ("recall", "recall:bright", "recall:dark")] == [3, 3, 1]


def test_the_oracle_has_one_threshold_for_all_and_is_at_least_the_main_score() -> None:
    generator = np.random.default_rng(5)
    rows = []
    for n in range(30):
        truth = patch(1, 5, 1 + n % 3, 6, (8, 8))
        grid = generator.normal(truth * 0.6, 0.5)
        finding = ("bright", "dark")[n % 2]
        rows.append(row(grid, truth, 0.4, id=f"{n}", patient=f"{n}", finding=finding))
    scores = score(*rows)
    assert scores["dice"].value <= scores["oracle_dice"].value
    assert scores["oracle_dice"].low <= scores["oracle_dice"].value <= scores["oracle_dice"].high
    assert repr(score(*rows[::-1])) == repr(scores)
    best = max(
        score(*({**r, "threshold": cut} for r in rows))["dice"].value for cut in (0.2, 0.3, 0.5)
    )
    assert scores["oracle_dice"].value >= best - 0.01


def test_a_map_of_two_constants_has_no_noise_and_no_cnr() -> None:
    truth = patch(0, 2, 0, 4, (4, 4))
    scores = score(row(truth.astype(float), truth))
    assert scores["dice"].value == 1.0
    assert np.isnan(scores["cnr"].value)


@pytest.mark.parametrize(
    "broken",
    [
        {"grid": [0.1] * 15},
        {"grid": [float("nan")] * 16},
        {"grid": "text"},
        {"grid": []},
        {"grid_h": None},
        {"threshold": float("nan")},
        {"scale_x": float("inf")},
        {"resampling": "guess"},
        {"truth": "rubbish ~"},
        {"height": 5},
        {"height": 10**9},
    ],
)
def test_broken_rows_are_refused(broken: dict[str, Any]) -> None:
    whole = row(np.zeros((4, 4)), patch(0, 2, 0, 2, (4, 4)))
    with pytest.raises(BadResult):
        score(whole, {**whole, "id": "odd", **broken})


def test_duplicate_rows_and_missing_columns_are_refused() -> None:
    whole = row(np.zeros((4, 4)), patch(0, 2, 0, 2, (4, 4)))
    with pytest.raises(BadResult, match="twice"):
        score(whole, whole)
    with pytest.raises(BadResult, match="grid_h"):
        ground.score(pd.DataFrame([whole]).drop(columns="grid_h"), PROTOCOL)
