"""The task `attention`: maps that a model shows, against boxes and masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import toy
from torch import Tensor

from g2dbench.cards import TaskCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder
from g2dbench.task import Run

SIDE = 16
TASK = Registry().find(TaskCard, "attention").load()
G2D, PROMPT = TASK.PROTOCOLS["g2d"], TASK.PROTOCOLS["prompt"]
CARD = toy.card("marks", "masks", "Bright", "Dark")
single_thread = toy.single_thread


class Panels(Model):
    """Shows the brightness, its opposite, and what the report asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=SIDE, channels=1)
        self.identity = Identity("panels", "0" * 64)
        self.reports: list[Sequence[str] | None] = []

    def panels(self, images: Tensor, reports: Sequence[str] | None) -> dict[str, Tensor]:
        self.reports.append(reports)
        shown = {"brightness": images[:, 0], "darkness": 1 - images[:, 0]}
        if reports is not None:
            dark = torch.tensor([report == "dark" for report in reports])[:, None, None]
            shown["asked"] = torch.where(dark, 1 - images[:, 0], images[:, 0])
        return shown


def sample(name: str, findings: Sequence[str], signal: bool = True) -> Sample:
    image = np.random.default_rng(int(name)).integers(100, 110, (SIDE, SIDE)).astype(np.uint8)
    masks = {}
    for finding in findings:
        mask = np.zeros((SIDE, SIDE), bool)
        mask[2:6, 3:7] = finding == "Bright"
        mask[9:14, 9:13] = finding == "Dark"
        image[mask] = {"Bright": 250, "Dark": 5}[finding] if signal else image[mask]
        masks[finding] = mask
    return Sample(id=name, image=image, patient=f"p{name}", masks=masks)


def marks(count: int, signal: bool = True) -> MemoryDataset:
    kinds = (["Bright"], ["Bright", "Dark"], ["Dark"], [])
    samples = [sample(str(n), kinds[n % 4], signal) for n in range(count)]
    return MemoryDataset(samples, CARD, SIDE, "toy")


def run_on(test: MemoryDataset, protocol: Any = G2D, **more: Any) -> Run:
    none = test.take([])
    return toy.run_with(train=none, valid=none, test=test, protocol=protocol, **more)


def test_a_task_is_one_file_of_under_120_lines(project: Path) -> None:
    assert len((project / "tasks" / "attention.py").read_text().splitlines()) < 120


def test_a_planted_signal_is_found_and_its_opposite_is_not() -> None:
    table = TASK.predict(Panels(), run_on(marks(8)))
    assert sorted(table["map"].unique()) == ["0 brightness", "1 darkness"]
    scores = TASK.score(table, G2D)
    assert scores["pixel_auc:Bright"].value == scores["iou:Bright"].value == 1.0
    assert scores["pixel_auc@darkness:Dark"].value == 1.0
    assert scores["pixel_auc:Dark"].value == 0.0
    assert scores["pixel_auc"].value == scores["pixel_auc@brightness"].value == 0.5
    assert scores["pointing_game:Bright"].value == 1.0
    assert scores["coverage:Bright"].value == pytest.approx(16 / SIDE**2)
    assert 0 < scores["entropy"].value <= 1
    assert (scores["pixel_auc"].n, scores["pixel_auc:Dark"].n) == (6, 4)


def test_the_prompt_is_the_findings_name() -> None:
    model = Panels()
    scores = TASK.score(TASK.predict(model, run_on(marks(8), PROMPT)), PROMPT)
    asked = {tuple(set(reports)) for reports in model.reports if reports is not None}
    assert asked == {("bright",), ("dark",)}
    assert scores["pixel_auc@asked"].value == 1.0


def test_noise_scores_chance() -> None:
    scores = TASK.score(TASK.predict(Panels(), run_on(marks(80, signal=False))), G2D)
    assert scores["pixel_auc"].low < 0.5 < scores["pixel_auc"].high


@pytest.mark.parametrize("protocol", [G2D, PROMPT])
def test_batch_size_order_and_the_cache_change_nothing(protocol: Any, tmp_path: Path) -> None:
    test = marks(12)
    one = TASK.predict(Panels(), run_on(test, protocol, batch_size=1))
    for size in (5, 64):
        features = FeatureFolder(tmp_path)
        again = TASK.predict(Panels(), run_on(test, protocol, batch_size=size, features=features))
        pd.testing.assert_frame_equal(one, again, check_exact=True)
    turned = TASK.predict(Panels(), run_on(test.take(range(11, -1, -1)), protocol))
    keys = ["id", "finding", "map"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True), turned.sort_values(keys, ignore_index=True),
        check_exact=True,
    )  # fmt: skip
    assert repr(TASK.score(one, protocol)) == repr(TASK.score(turned, protocol))


def test_scores_are_the_same_after_storage(tmp_path: Path) -> None:
    table = TASK.predict(Panels(), run_on(marks(8)))
    table.to_parquet(tmp_path / "p.parquet")
    again = TASK.score(pd.read_parquet(tmp_path / "p.parquet"), G2D)
    assert repr(again) == repr(TASK.score(table, G2D))


def test_what_cannot_be_measured_is_an_error() -> None:
    class Mute(Model):
        identity = Identity("mute", "0")

    with pytest.raises(Unsupported, match="attention needs maps; mute does not show any"):
        TASK.predict(Mute(), run_on(marks(4)))
    healthy = MemoryDataset([sample("1", [])], CARD, SIDE, "toy")
    with pytest.raises(BadData, match="no test image of marks has a finding"):
        TASK.predict(Panels(), run_on(healthy))


def test_a_map_that_is_not_finite_is_named() -> None:
    class Broken(Panels):
        def panels(self, images: Tensor, reports: Sequence[str] | None) -> dict[str, Tensor]:
            return {"broken": images[:, 0] / 0}

    with pytest.raises(BadData, match="a map of image 0 is not finite"):
        TASK.predict(Broken(), run_on(marks(4)))


def test_broken_predictions_name_the_image() -> None:
    table = TASK.predict(Panels(), run_on(marks(8)))
    with pytest.raises(BadResult, match="image '0'"):
        TASK.score(table.assign(coverage=float("nan")), G2D)
    with pytest.raises(BadResult, match="image '0' has no patient"):
        TASK.score(table.assign(patient=table["patient"].where(table["id"] != "0")), G2D)
    with pytest.raises(BadResult, match="entropy"):
        TASK.score(table.drop(columns="entropy"), G2D)
    with pytest.raises(BadResult, match="twice"):
        TASK.score(pd.concat([table, table]), G2D)
