"""Detection: simple squares are found, and scores follow from the stored rows only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import toy
from support.squares import Memory, Pixels, square, squares

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.metrics.detection import ImageBoxes, coco_map, map_skip_empty
from g2dbench.model import Identity, Model
from g2dbench.registry import Registry
from g2dbench.task import Run

det = Registry().find(TaskCard, "det").load()
QUICK = replace(
    det.PROTOCOLS["g2d"],
    fit=FitSettings(lr=8e-3, weight_decay=1e-6, batch_size=16, epochs=8, min_steps_per_epoch=12),
)
single_thread = toy.single_thread


def run_on(train: Memory, valid: Memory, test: Memory, protocol: Any = QUICK, **more: Any) -> Run:
    cpu = torch.device("cpu")
    return toy.run_with(train=train, valid=valid, test=test, protocol=protocol, device=cpu, **more)


@pytest.fixture(scope="module")
def parts() -> tuple[Memory, Memory, Memory]:
    test = [square(index, "test") for index in range(20)]
    test.append(square(21, "test", shape=(96, 160)))
    return squares(96, "train"), squares(24, "valid"), Memory(test)


@pytest.fixture(scope="module")
def predictions(parts: tuple[Memory, Memory, Memory]) -> pd.DataFrame:
    return det.predict(Pixels(), run_on(*parts))


def row(name: str, boxes: list, scores: list, truth: list, patient: str | None = None) -> dict:
    flat = {"boxes": boxes, "scores": scores, "truth": truth}
    return {"id": name, "patient": patient or name, "height": 50, "width": 50, **flat}


def test_the_defaults_are_those_of_the_paper() -> None:
    protocol = det.PROTOCOLS["g2d"]
    few, many = protocol.fit_small_fraction, protocol.fit
    assert (few.batch_size, few.lr, few.weight_decay) == (8, 2e-4, 1e-6)
    assert (many.batch_size, many.lr, many.weight_decay) == (16, 5e-4, 1e-6)
    assert {(s.epochs, s.patience, s.schedule) for s in (few, many)} == {(50, 10, "constant")}
    assert protocol.stored_nms.max_iou == 0.5


def test_bright_squares_are_found_in_image_pixels(predictions: pd.DataFrame) -> None:
    scores = det.score(predictions, QUICK)
    assert scores["map"].value > 0.5
    assert scores["map"].low <= scores["map"].value <= scores["map"].high
    assert scores["map"].n == 21
    wide = predictions[predictions["id"] == "test021"].iloc[0]
    assert (wide["height"], wide["width"]) == (96, 160)
    np.testing.assert_allclose(wide["boxes"][:4], wide["truth"], atol=12)


def test_a_row_has_the_ground_truth_and_decreasing_confidences(
    predictions: pd.DataFrame, parts: tuple[Memory, Memory, Memory]
) -> None:
    assert predictions["id"].tolist() == parts[2].table["id"].tolist()
    for found, sample in zip(predictions.to_dict("records"), parts[2], strict=True):
        assert found["truth"] == [edge for box in sample.boxes or () for edge in box[1:]]
        assert len(found["boxes"]) == 4 * len(found["scores"]) <= 400
        assert found["scores"] == sorted(found["scores"], reverse=True)


def test_the_same_seed_gives_identical_results_for_any_batch_size(
    parts: tuple[Memory, Memory, Memory],
) -> None:
    short = replace(QUICK, fit=replace(QUICK.fit, epochs=1, min_steps_per_epoch=1))
    first, second = (
        det.predict(Pixels(), run_on(*parts, short, batch_size=size)) for size in (1, 32)
    )
    pd.testing.assert_frame_equal(first, second)
    other = det.predict(Pixels(), run_on(*parts, short, seed=1))
    assert not first["scores"].equals(other["scores"])


def test_small_fractions_are_fitted_with_their_own_settings(
    parts: tuple[Memory, Memory, Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def fit(*arguments: Any) -> None:
        used.append(next(a for a in arguments if isinstance(a, FitSettings)))
        arguments[1].eval()

    monkeypatch.setattr(det, "fit_in_run", fit)
    for fraction in (0.01, 0.1, 1.0):
        det.predict(Pixels(), run_on(*parts, fraction=fraction))
    assert used == [QUICK.fit_small_fraction, QUICK.fit, QUICK.fit]


def test_a_single_coarse_level_is_enough(parts: tuple[Memory, Memory, Memory]) -> None:
    short = replace(QUICK, fit=replace(QUICK.fit, epochs=1, min_steps_per_epoch=1))
    found = det.predict(Pixels(strides=(16,)), run_on(*parts, short))
    assert len(found) == 21


def test_scores_are_the_same_after_storage_and_shuffling(
    predictions: pd.DataFrame, tmp_path: Path
) -> None:
    expected = det.score(predictions, QUICK)
    predictions.sample(frac=1, random_state=3).to_parquet(tmp_path / "p.parquet")
    again = det.score(pd.read_parquet(tmp_path / "p.parquet"), QUICK)
    assert str(again) == str(expected)  # NaN is not equal to itself


def test_map_by_hand_and_against_pycocotools() -> None:
    """True positives .6 and .2, a false positive .9 on a healthy image, a missed box."""
    table = pd.DataFrame(
        [
            row("a", [0, 0, 10, 10], [0.6], [0, 0, 10, 10]),
            row("b", [5, 5, 9, 9], [0.9], []),
            row("c", [], [], [20, 20, 30, 30]),
            row("d", [0, 0, 10, 10], [0.2], [0, 0, 10, 10]),
        ]
    )
    scores = det.score(table, det.PROTOCOLS["g2d"])
    # by confidence: FP .9, TP .6, TP .2; three boxes: recall 1/3 and 2/3 at precision 2/3
    # at best, so 67 of 101 recalls have precision 2/3
    assert scores["map"].value == pytest.approx(67 / 101 * 2 / 3)
    # from .5 on: FP, TP: precision 1/2 up to recall 1/3, 34 of 101 recalls
    assert scores["map_conf50"].value == pytest.approx(34 / 101 / 2)
    # MGCA excludes b, c and d: image a alone is perfect
    assert scores["map_skip_empty"].value == pytest.approx(1.0)
    assert [scores[name].n for name in ("map", "map_conf50", "map_skip_empty")] == [4, 4, 1]
    images = [
        ImageBoxes(*(np.reshape(r[k], s) for k, s in shapes))
        for shapes in [(("boxes", (-1, 4)), ("scores", (-1,)), ("truth", (-1, 4)))]
        for r in table.to_dict("records")
    ]
    assert scores["map"].value == pytest.approx(coco_map(images).value)
    sure = [image for image in images if (image.scores >= 0.5).any()]
    assert scores["map_skip_empty"].value == pytest.approx(map_skip_empty(sure).value)


def test_without_detections_the_score_is_0_and_without_ground_truth_undefined() -> None:
    nothing_found = pd.DataFrame([row("a", [], [], [0, 0, 9, 9]), row("b", [], [], [])])
    assert det.score(nothing_found, QUICK)["map"].value == 0
    no_truth = pd.DataFrame([row("a", [0, 0, 9, 9], [0.9], []), row("b", [], [], [])])
    assert all(np.isnan(score.value) for score in det.score(no_truth, QUICK).values())


def test_one_patients_images_are_sampled_together() -> None:
    good, bad = ([0, 0, 10, 10], [0.9], [0, 0, 10, 10]), ([], [], [0, 0, 10, 10])
    apart = pd.DataFrame([row("a", *good), row("b", *bad)])
    together = apart.assign(patient="p")
    assert not np.isnan(det.score(apart, QUICK)["map"].low)
    assert np.isnan(det.score(together, QUICK)["map"].low)


@pytest.mark.parametrize(
    "broken",
    [
        {"boxes": [0.0, 0, 1]},
        {"scores": [0.1, 0.2]},
        {"scores": [float("nan")]},
        {"boxes": [5.0, 5, 1, 1]},
        {"truth": [1.0, 1, 1, 1]},
        {"truth": "text"},
        {"boxes": None},
    ],
)
def test_broken_rows_are_refused_by_image(broken: dict) -> None:
    table = pd.DataFrame([row("whole", [], [], []), row("odd", [0, 0, 1, 1], [0.5], []) | broken])
    with pytest.raises(BadResult, match="'odd'"):
        det.score(table, QUICK)


def test_duplicate_images_and_missing_columns_are_refused() -> None:
    table = pd.DataFrame([row("a", [], [], []), row("a", [], [], [])])
    with pytest.raises(BadResult, match="'a' twice"):
        det.score(table, QUICK)
    with pytest.raises(BadResult, match="truth"):
        det.score(table.drop(columns="truth"), QUICK)


def test_splits_without_boxes_are_refused(parts: tuple[Memory, Memory, Memory]) -> None:
    train, valid, test = parts
    healthy = train.take([0, 4, 8])
    bare = Memory([replace(sample, boxes=None) for sample in test])
    with pytest.raises(BadData, match="none of the 3 train images of squares has a box"):
        det.predict(Pixels(), run_on(healthy, valid, test))
    with pytest.raises(BadData, match="none of the 3 valid images of squares has a box"):
        det.predict(Pixels(), run_on(train, healthy, test))
    with pytest.raises(BadData, match="21 test images of squares has boxes"):
        det.predict(Pixels(), run_on(train, valid, bare))
    with pytest.raises(BadData, match="has a box of dot"):
        det.predict(Pixels(), run_on(*parts, replace(QUICK, findings=("dot",))))
    with pytest.raises(BadData, match="no train images"):
        det.predict(Pixels(), run_on(train.take([]), valid, test))


def test_images_not_annotated_are_excluded(parts: tuple[Memory, Memory, Memory]) -> None:
    short = replace(QUICK, fit=replace(QUICK.fit, epochs=1, min_steps_per_epoch=1))
    train, valid, test = parts
    some = Memory([*test.take([1, 4]), replace(square(7, "unseen"), boxes=None)])
    found = det.predict(Pixels(), run_on(train, valid, some, short))
    assert found["id"].tolist() == ["test001", "test004"]
    assert found["truth"].iloc[1] == []


def test_a_model_without_features_is_unsupported(parts: tuple[Memory, Memory, Memory]) -> None:
    class Mute(Model):
        identity = Identity("mute", "0")

    with pytest.raises(Unsupported, match="det needs a model that offers features"):
        det.predict(Mute(), run_on(*parts))
