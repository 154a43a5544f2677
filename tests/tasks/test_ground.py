"""Grounding: maps are scored in image pixels, at a threshold not chosen on the test split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import toy
from support.tasks.grounding import (
    PROTOCOL,
    SIDE,
    Brightness,
    Memory,
    ground,
    mark,
    marks,
    patch,
    run_on,
)

from g2dbench.data.annotations import rle
from g2dbench.errors import BadData, Unsupported
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Box, Sample

single_thread = toy.single_thread


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


def contrast(negative: str) -> Any:
    return replace(ground.PROTOCOLS["contrast"], negative=negative)


def test_the_map_of_the_negative_is_subtracted() -> None:
    """The map of bright minus that of dark is twice the first; the negative: one text, or each."""
    plain, once, each = Brightness(base=0.5), Brightness(base=0.5), Brightness(base=0.5)
    maps = {
        name: ground.predict(model, run_on(marks(4, "test"), protocol=contrast(negative)))["grid"]
        for name, model, negative in (
            ("plain", plain, ""), ("once", once, "dark"), ("each", each, "no {}")
        )
    }  # fmt: skip
    assert once.texts == {("bright", "dark", "dark")}
    assert each.texts == {("bright", "dark", "no bright", "no dark")}
    np.testing.assert_allclose(maps["once"][0], 2 * (maps["plain"][0] - 0.5), atol=1e-6)
    np.testing.assert_allclose(maps["once"][2], 0, atol=1e-6)  # "dark" minus "dark"
    np.testing.assert_allclose(maps["each"][0], 0, atol=1e-6)  # the toy model knows no "no"


def test_other_braces_of_a_prompt_are_plain_text() -> None:
    model = Brightness()
    protocol = replace(PROTOCOL, template="{x} {0} { {}")
    ground.predict(model, run_on(marks(4, "test"), protocol=protocol))
    assert model.texts == {("{x} {0} { bright", "{x} {0} { dark")}


def test_contrast_finds_what_every_prompt_points_away_from() -> None:
    """A model whose maps are lower on every finding: its map of a normal image is lower still."""
    model = Inverted()
    alone, contrasted = (
        ground.score(ground.predict(model, run_on(marks(16, "test"), protocol=protocol)), PROTOCOL)
        for protocol in (ground.PROTOCOLS["valid"], ground.PROTOCOLS["contrast"])
    )
    assert alone["pixel_auc:bright"].value == pytest.approx(0.0)
    assert contrasted["pixel_auc:bright"].value == pytest.approx(1.0)


class Inverted(Brightness):
    """All texts are far from bright pixels, "bright" less than others."""

    def locate(self, images: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        bright = 2 * images[:, 0] - 1
        return torch.stack([-bright if "bright" in t else -2 * bright for t in texts], dim=1)


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
