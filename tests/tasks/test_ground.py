"""Grounding: maps are scored in image pixels, at a threshold not chosen on the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from support import toy

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.data.annotations import rle
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Box, Sample
from g2dbench.task import Run

SIDE = 32
ground = Registry().find(TaskCard, "ground").load()
PROTOCOL = ground.PROTOCOLS["g2d"]
NEAREST, WHOLE = Grounding("nearest"), Preprocess(size=SIDE, channels=1)
single_thread = toy.single_thread


class Memory(toy.Memory):
    card, size = toy.card("marks", "masks", "bright", "dark"), SIDE


class Brightness(Model):
    """Finds "bright" in bright pixels and "dark" in dark ones; records the texts.

    gain, base: its maps are base + gain x brightness.
    """

    card = ModelCard(
        name="brightness", summary="", paper="", source="", licence="", capabilities=("locates",)
    )
    identity = Identity("brightness", "0")

    def __init__(
        self,
        gain: float = 1.0,
        base: float = 0.0,
        grounding: Grounding = NEAREST,
        preprocess: Preprocess = WHOLE,
    ) -> None:
        super().__init__()
        self.gain, self.base = gain, base
        self.grounding, self.preprocess = grounding, preprocess
        self.texts: set[tuple[str, ...]] = set()

    def locate(self, images: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        self.texts.add(tuple(texts))
        bright = 2 * images[:, 0] - 1
        maps = [bright if "bright" in text else -bright for text in texts]
        return self.base + self.gain * torch.stack(maps, dim=1)


def mark(
    name: str,
    masks: Mapping[str, NDArray[np.bool_]],
    shape: tuple[int, int] = (SIDE, SIDE),
    patient: str | None = None,
    seed: int = 0,
) -> Sample:
    """Gray with noise; bright or dark in the masks."""
    image = np.random.default_rng(seed).integers(110, 140, shape).astype(np.uint8)
    for finding, mask in masks.items():
        image[mask] = {"bright": 240, "dark": 10}[finding]
    return Sample(id=name, image=image, patient=patient or f"p-{name}", masks=masks)


def patch(y0: int, y1: int, x0: int, x1: int, shape: tuple[int, int] = (SIDE, SIDE)) -> Any:
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def marks(count: int, part: str) -> Memory:
    """Images with "bright", with both, with "dark", with neither, in turn."""
    samples = []
    for n in range(count):
        masks = {}
        if n % 4 in (0, 1):
            masks["bright"] = patch(2 + n % 5, 12, 3, 14)
        if n % 4 in (1, 2):
            masks["dark"] = patch(18, 28, 16, 26 + n % 5)
        samples.append(mark(f"{part}{n:03d}", masks, seed=n))
    return Memory(samples)


def run_on(test: Memory, valid: Memory | None = None, **more: Any) -> Run:
    settings = {"protocol": PROTOCOL, "device": torch.device("cpu")} | more
    chosen = marks(8, "valid") if valid is None else valid
    return toy.run_with(train=test.take([]), valid=chosen, test=test, **settings)


def row(grid: Any, truth: Any, threshold: float = 0.5, **more: Any) -> dict[str, Any]:
    """A stored row, by default with one grid cell per image pixel."""
    grid, truth = np.asarray(grid, np.float32), np.asarray(truth, bool)
    height, width = truth.shape
    assert height == width
    names = {"id": "a", "patient": "p", "finding": "bright"}
    geometry = {"height": height, "width": width, "size": width, "scale_x": 1.0, "scale_y": 1.0}
    return {
        **names,
        "grid_h": grid.shape[0],
        "grid_w": grid.shape[1],
        "grid": grid.ravel().tolist(),
        **geometry,
        "offset_x": 0.0,
        "offset_y": 0.0,
        "resampling": "nearest",
        "threshold": threshold,
        "truth": rle.encode(truth),
        **more,
    }


def score(*rows: dict[str, Any]) -> dict[str, Any]:
    return ground.score(pd.DataFrame(rows), PROTOCOL)


def test_a_perfect_model_has_perfect_scores() -> None:
    table = ground.predict(Brightness(), run_on(marks(16, "test")))
    scores = ground.score(table, PROTOCOL)
    for name in ("dice", "iou", "recall", "pointing_game", "oracle_dice", "oracle_iou"):
        assert scores[name].value == pytest.approx(1.0), name
    for name in ("dice:bright", "dice:dark"):
        assert (scores[name].value, scores[name].n) == (pytest.approx(1.0), 8)
    assert scores["cnr"].value > 5
    assert scores["dice"].n == 12


def test_only_present_findings_are_prompted_and_each_has_a_row() -> None:
    model = Brightness()
    table = ground.predict(model, run_on(marks(4, "test")))
    assert list(zip(table["id"], table["finding"], strict=True)) == [
        ("test000", "bright"),
        ("test001", "bright"),
        ("test001", "dark"),
        ("test002", "dark"),
    ]
    assert model.texts == {("bright", "dark")}
    assert table["grid"].map(len).eq(SIDE * SIDE).all()


def test_the_template_makes_the_prompt() -> None:
    model = Brightness()
    ground.predict(model, run_on(marks(4, "test"), protocol=ground.PROTOCOLS["biovil"]))
    assert model.texts == {("Findings consistent with bright", "Findings consistent with dark")}


def test_a_published_threshold_is_used_and_validation_is_not_needed() -> None:
    model = Brightness(grounding=Grounding("bilinear", 0.25))
    table = ground.predict(model, run_on(marks(4, "test"), valid=marks(0, "valid")))
    assert (table["threshold"] == 0.25).all()
    assert (table["resampling"] == "bilinear").all()


def test_the_range_of_a_models_values_does_not_matter() -> None:
    unscaled, scaled = (
        ground.score(ground.predict(model, run_on(marks(8, "test"))), PROTOCOL)
        for model in (Brightness(), Brightness(gain=0.01, base=-3))
    )
    assert scaled["dice"].value == pytest.approx(unscaled["dice"].value)


def test_the_threshold_is_the_validation_quantile_of_best_dice() -> None:
    """A 4 x 4 map of 0 .. 15 whose truth is the last row: best is any threshold from 11 to 12."""
    shape = (4, 4)
    grid = np.arange(16, dtype=np.uint8).reshape(shape)
    truth = {"bright": patch(3, 4, 0, 4, shape)}
    image = Sample(id="v", image=grid * 16, patient="p", masks=truth)
    model = Brightness(preprocess=Preprocess(size=4, channels=1))
    valid = Memory([image])
    table = ground.predict(model, run_on(Memory([replace(image, id="t")]), valid=valid))
    values = 2 * (grid.astype(np.float32) * 16 / 255) - 1
    cuts = np.quantile(values.astype(np.float64), np.arange(1, 100) / 100)
    good = cuts[(cuts >= values[2, 3]) & (cuts < values[3, 0])]
    assert table["threshold"].iloc[0] == pytest.approx(good[0], abs=1e-6)


def test_the_test_ground_truth_does_not_change_the_threshold() -> None:
    test = marks(8, "test")
    flipped = Memory([replace(s, masks={f: ~m for f, m in s.masks.items()}) for s in test])
    one, other = (
        ground.predict(Brightness(), run_on(part))["threshold"].iloc[0] for part in (test, flipped)
    )
    assert one == other


def test_batch_size_and_the_order_of_images_change_nothing() -> None:
    test = marks(24, "test")
    backwards = test.take(range(23, -1, -1))
    first = ground.predict(Brightness(), run_on(test, batch_size=1))
    second = ground.predict(Brightness(), run_on(backwards, batch_size=64))
    keys = ["id", "finding"]
    pd.testing.assert_frame_equal(first, second.sort_values(keys, ignore_index=True))
    assert repr(ground.score(first, PROTOCOL)) == repr(ground.score(second, PROTOCOL))


def test_scores_are_the_same_after_storage(tmp_path: Path) -> None:
    table = ground.predict(Brightness(), run_on(marks(8, "test")))
    table.to_parquet(tmp_path / "p.parquet")
    again = ground.score(pd.read_parquet(tmp_path / "p.parquet"), PROTOCOL)
    assert repr(again) == repr(ground.score(table, PROTOCOL))  # NaN is not equal to NaN


def test_boxes_are_the_ground_truth_without_a_mask() -> None:
    boxes = (Box("bright", 2, 4, 10, 12), Box("bright", 8, 4, 12, 6))
    union = patch(4, 12, 2, 10) | patch(4, 6, 8, 12)
    sample = replace(mark("t", {"bright": union}), masks=None, boxes=boxes)
    table = ground.predict(Brightness(), run_on(Memory([sample])))
    assert (rle.decode(table["truth"].iloc[0], (SIDE, SIDE)) == union).all()
    masked = replace(sample, masks={"bright": patch(0, 1, 0, 1)})
    table = ground.predict(Brightness(), run_on(Memory([masked])))
    assert rle.area(table["truth"].iloc[0], (SIDE, SIDE)) == 1


def test_pixels_outside_the_crop_are_never_predicted() -> None:
    """A 32 x 64 image, center crop; half of the ground truth lies outside."""
    shape = (32, 64)
    sample = mark("t", {"bright": patch(8, 16, 8, 24, shape)}, shape)
    model = Brightness(preprocess=Preprocess(size=SIDE, fit="crop", channels=1))
    scores = ground.score(ground.predict(model, run_on(Memory([sample]))), PROTOCOL)
    assert scores["recall"].value == pytest.approx(0.5)
    assert scores["dice"].value == pytest.approx(2 * 64 / (64 + 128))
    outside = mark("t", {"bright": patch(8, 16, 0, 12, shape)}, shape)
    scores = ground.score(ground.predict(model, run_on(Memory([outside]))), PROTOCOL)
    assert scores["dice"].value == scores["recall"].value == scores["pointing_game"].value == 0
    assert np.isnan(scores["cnr"].value)


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


def test_images_without_annotated_findings_are_an_error() -> None:
    healthy = Memory([mark("h", {}), replace(mark("n", {}), masks=None)])
    with pytest.raises(BadData, match="none of the 2 test images of marks has a finding"):
        ground.predict(Brightness(), run_on(healthy))
    with pytest.raises(BadData, match="none of the 2 validation images"):
        ground.predict(Brightness(), run_on(marks(4, "test"), valid=healthy))


def test_a_map_that_is_not_finite_is_named() -> None:
    with pytest.raises(BadData, match="map of image test000 of marks is not finite"):
        ground.predict(Brightness(gain=float("inf")), run_on(marks(4, "test")))


def test_a_model_that_cannot_locate_is_unsupported() -> None:
    class Mute(Model):
        identity = Identity("mute", "0")

    with pytest.raises(Unsupported, match="ground needs a model that offers locates"):
        ground.predict(Mute(), run_on(marks(4, "test")))


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
