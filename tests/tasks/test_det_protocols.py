"""Every protocol of detection learns, is saved and reloaded; classes; scores by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import toy
from support.squares import Memory, Pixels, TrainablePixels, square, squares, two_kinds

from g2dbench.cards import TaskCard
from g2dbench.errors import BadCheckpoint, BadResult
from g2dbench.evaluation.detection.fcos import FcosSettings
from g2dbench.evaluation.fit_head import FitSettings
from g2dbench.evaluation.heads.saved_head import HEAD_FILE, SavedHead, load_head
from g2dbench.registry import Registry
from g2dbench.sample import Box
from g2dbench.system.machine import FeatureFolder, Machine
from g2dbench.task import Run

det = Registry().find(TaskCard, "det").load()
FIT = {
    "yolo": FitSettings(
        lr=8e-3, weight_decay=1e-6, batch_size=16, epochs=6, min_steps_per_epoch=12
    ),
    "fcos": FitSettings(lr=2e-3, weight_decay=1e-6, batch_size=16, epochs=2, min_steps_per_epoch=8),
}
single_thread = toy.single_thread


def run_on(name: str, epochs: int | None = None, **settings: Any) -> Run:
    protocol = det.PROTOCOLS[name]
    fit = FIT[protocol.detector]
    if epochs is not None:
        fit = replace(fit, epochs=epochs, min_steps_per_epoch=1)
    changes = {"fit": fit, "fcos": FcosSettings(width=64, convolutions=1)}
    changes |= settings.pop("changes", {})
    base = {"train": squares(64, "train"), "valid": squares(16, "valid"), "test": squares(16, "t")}
    return toy.run_with(protocol=replace(protocol, **changes), **(base | settings))


@pytest.mark.parametrize("name", det.CARD.protocols)
def test_a_planted_finding_is_detected(name: str) -> None:
    run = run_on(
        name,
        changes={"fit": replace(FIT["fcos"], lr=2e-3, epochs=12)} if name == "fcos-full" else {},
    )
    found = det.score(det.predict(TrainablePixels(), run), run.protocol)
    assert found["ap50"].value > 0.9
    assert found["map"].value > 0.5
    assert found["froc"].value > 0.9


def shuffled(data: Memory) -> Memory:
    """Every box is moved to a random place, partly outside, so that each cell is as likely."""
    generator = np.random.default_rng(0)
    samples = []
    for given in data:
        x, y = generator.uniform(-16, 60, 2)
        x0, y0, x1, y1 = np.clip([x, y, x + 20, y + 20], 0, 64).tolist()
        boxes = tuple(Box("square", x0, y0, x1, y1) for _ in given.boxes or ())
        samples.append(replace(given, boxes=boxes))
    return Memory(samples)


@pytest.mark.parametrize("name", ["g2d", "fcos"])
def test_shuffled_boxes_give_chance(name: str) -> None:
    run = run_on(name, epochs=4)
    run = replace(run, train=shuffled(run.train), valid=shuffled(run.valid))
    found = det.score(det.predict(TrainablePixels(), run), run.protocol)
    assert found["map"].value < 0.2


@pytest.mark.parametrize("name", ["g2d", "fcos"])
def test_each_finding_can_be_a_class_of_its_own(name: str) -> None:
    parts = [two_kinds(count, part) for count, part in ((96, "train"), (16, "valid"), (16, "t"))]
    splits = dict(zip(("train", "valid", "test"), parts, strict=True))
    run = run_on(name, changes={"classes": "each"}, **splits)
    predictions = det.predict(TrainablePixels(), run)
    assert sorted(predictions["finding"].unique()) == ["dot", "square"]
    assert len(predictions) == 2 * 16
    found = det.score(predictions, run.protocol)
    assert found["ap50"].value == pytest.approx(
        (found["ap50:dot"].value + found["ap50:square"].value) / 2
    )
    assert found["ap50"].value > 0.6


@pytest.mark.parametrize("name", det.CARD.protocols)
def test_a_saved_head_gives_the_same_predictions_without_training_data(
    name: str, tmp_path: Path
) -> None:
    run = run_on(name, epochs=1, save_heads=True, folder=tmp_path)
    model = TrainablePixels()
    expected = det.predict(model, run)
    saved = load_head(tmp_path / HEAD_FILE)
    applied = replace(run, train=Memory([]), valid=Memory([]))
    pd.testing.assert_frame_equal(det.apply(model, saved, applied), expected)
    encoder = {key for key in saved.weights if key.startswith("encoder.")}
    assert bool(encoder) == (name in ("mgca", "fcos-full"))
    assert ("encoder.norm.weight" in encoder) == (name == "fcos-full")


def test_a_head_is_applied_to_images_without_ground_truth() -> None:
    run = run_on("g2d", epochs=1)
    saved = det.fit(Pixels(), run)
    images = Memory([replace(square(1, "x", (50, 90)), boxes=None)])
    found = det.apply(Pixels(), saved, replace(run, test=images))
    assert found["truth"].tolist() == [None]
    with pytest.raises(BadResult, match="no ground truth for image 'x001'"):
        det.score(found, run.protocol)
    with pytest.raises(BadCheckpoint, match="for 'seg', not for 'det'"):
        det.apply(Pixels(), SavedHead({}, {"task": "seg"}), run)


@pytest.mark.parametrize("name", det.CARD.protocols)
def test_results_depend_on_the_seed_but_not_on_batch_size_or_order(name: str) -> None:
    def predicted(**settings: Any) -> pd.DataFrame:
        found = det.predict(TrainablePixels((16,)), run_on(name, epochs=1, **settings))
        return found.sort_values("id").reset_index(drop=True)

    first = predicted(batch_size=1)
    pd.testing.assert_frame_equal(predicted(batch_size=32), first)
    backwards = squares(16, "t").take(range(15, -1, -1))
    pd.testing.assert_frame_equal(predicted(test=backwards), first)
    assert not predicted(seed=1)["scores"].equals(first["scores"])


@pytest.mark.parametrize("name", ["g2d", "fcos"])
def test_cached_features_give_the_same_predictions(name: str, tmp_path: Path) -> None:
    run = run_on(name, epochs=1)
    expected = det.predict(TrainablePixels(), run)
    machine = Machine(device=run.device, features=FeatureFolder(tmp_path))
    for _ in range(2):
        found = det.predict(TrainablePixels(), replace(run, machine=machine))
        pd.testing.assert_frame_equal(found, expected)
    assert any(tmp_path.rglob("*"))


def test_a_finding_of_the_test_images_alone_is_never_detected_but_counted() -> None:
    run = run_on("g2d", epochs=1, changes={"classes": "each"}, test=two_kinds(8, "t"))
    found = det.predict(Pixels(), run)
    dots = found[found["finding"] == "dot"]
    assert not any(dots["scores"].map(len))
    assert det.score(found, run.protocol)["map:dot"].value == 0
    one = replace(run, protocol=replace(run.protocol, classes="one"))
    merged = det.predict(Pixels(), one)
    assert merged["truth"].map(len).sum() == found["truth"].map(len).sum()


def test_the_published_settings_of_mgca() -> None:
    mgca = det.PROTOCOLS["mgca"]
    for dataset, lr in (("rsna", 2e-4), ("object_cxr", 2.5e-4)):
        small = mgca.fit_of(dataset, 0.01)
        assert (small.lr, small.batch_size, small.weight_decay) == (lr, 8, 1e-6)
        assert (mgca.fit_of(dataset, 0.1).lr, mgca.fit_of(dataset, 0.1).batch_size) == (5e-4, 16)
    assert (mgca.encoder, mgca.monitor) == ("batch-statistics", "map_skip_empty")
    assert (mgca.monitor_nms.min_score, mgca.monitor_nms.max_iou) == (0.5, 0.5)
    assert mgca.monitor_nms.margin == mgca.stored_nms.margin == 1


def row(name: str, finding: str, found: list, scores: list, truth: list, side: int = 50) -> dict:
    size = {"height": side, "width": side}
    boxes = {"boxes": found, "scores": scores, "truth": truth}
    return {"id": name, "patient": name, "finding": finding, **size, **boxes}


def test_strata_follow_the_share_of_the_image() -> None:
    # COCO's limits at 640 x 480: 1/300 and 3/100 of the area; of 1000 x 1000: 57.7 and 173.2
    small, medium, large = [0, 0, 57, 57], [100, 0, 273, 173], [0, 500, 400, 900]
    found = [*small, *large]
    table = pd.DataFrame([row("a", "lesion", found, [0.9, 0.8], [*small, *medium, *large], 1000)])
    scores = det.score(table, det.PROTOCOLS["g2d"])
    assert scores["ap50_small"].value == pytest.approx(1)
    assert scores["ap50_medium"].value == 0
    assert scores["ap50_large"].value == pytest.approx(1)


def test_coco_averages_at_their_thresholds() -> None:
    # IoU .64: found at .40 to .60, missed from .65 on
    table = pd.DataFrame([row("a", "lesion", [0, 0, 8, 8], [0.9], [0, 0, 10, 10])])
    scores = det.score(table, det.PROTOCOLS["g2d"])
    assert scores["map"].value == pytest.approx(5 / 8)
    assert scores["map_coco"].value == pytest.approx(3 / 10)
    assert (scores["ap50"].value, scores["ap75"].value) == (pytest.approx(1), 0)
    assert scores["froc"].value == scores["froc_center"].value == 1


def test_every_finding_of_every_image_is_needed() -> None:
    rows = [row("a", "dot", [], [], []), row("a", "square", [], [], [0, 0, 5, 5])]
    whole = pd.DataFrame([*rows, row("b", "dot", [], [], [])])
    with pytest.raises(BadResult, match="every finding of every image"):
        det.score(whole, det.PROTOCOLS["g2d"])
    assert det.score(pd.DataFrame(rows), det.PROTOCOLS["g2d"])["map"].value == 0
