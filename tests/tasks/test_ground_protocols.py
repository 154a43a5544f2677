"""Protocols of grounding: thresholds, phrases, metrics without a threshold, sizes, bad input."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from support import toy

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.data.annotations import rle
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.metrics import grounding
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Box, Sample
from g2dbench.system.machine import FeatureFolder
from g2dbench.task import Run

SIDE = 32
ground = Registry().find(TaskCard, "ground").load()
CARD = toy.card("marks", "boxes", "Spot", "Other")
PHRASES = replace(toy.card("ms_cxr", "boxes"), phrases=True)
single_thread = toy.single_thread


class Brightness(Model):
    """Maps are the brightness of pixels; records the texts of each call."""

    grounding = Grounding("nearest")

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=SIDE, channels=1)
        self.identity = Identity("brightness", "0")
        self.asked: list[tuple[str, ...]] = []

    def locate(self, images: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        self.asked.append(tuple(texts))
        return images[:, :1].expand(-1, len(texts), -1, -1)


class Attention(Brightness):
    """The same, of a model that matches findings: weights of all pixels sum to 1."""

    grounding = Grounding("nearest", 0.008)

    def match(self, images: torch.Tensor, findings: Sequence[str]) -> torch.Tensor:
        return images.mean((1, 2, 3))[:, None].expand(-1, len(findings))

    def locate(self, images: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        maps = super().locate(images, texts)
        return (8 * maps).flatten(2).softmax(-1).unflatten(-1, maps.shape[-2:])


def sample(
    name: str, boxes: Mapping[str, tuple[int, int, int, int]], signal: bool = True
) -> Sample:
    """Gray with noise, bright in the boxes (x0, y0, x1, y1)."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    image = generator.integers(100, 140, (SIDE, SIDE)).astype(np.uint8)
    for x0, y0, x1, y1 in boxes.values() if signal else ():
        image[y0:y1, x0:x1] = 240
    found = tuple(Box(finding, *map(float, corners)) for finding, corners in boxes.items())
    return Sample(id=name, image=image, patient=f"p-{name}", boxes=found)


def dataset(samples: Sequence[Sample], card: DatasetCard = CARD) -> MemoryDataset:
    return MemoryDataset(samples, card, SIDE, "toy")


def spots(count: int, part: str, signal: bool = True) -> MemoryDataset:
    return dataset(
        [
            sample(f"{part}{n:02d}", {"Spot": (n % 9, 3, n % 9 + 4 + n % 7, 12)}, signal)
            for n in range(count)
        ]
    )


def run_on(test: MemoryDataset, protocol: str = "g2d", **more: Any) -> Run:
    base = {"train": test.take([]), "valid": spots(6, "v"), "protocol": ground.PROTOCOLS[protocol]}
    return toy.run_with(test=test, **(base | more))


def scores_of(model: Model, run: Run) -> dict[str, Any]:
    return ground.score(ground.predict(model, run), run.protocol)


TEST = spots(12, "t")


@pytest.mark.parametrize("protocol", ["g2d", "biovil", "valid"])
def test_a_planted_signal_is_found(protocol: str) -> None:
    scores = scores_of(Brightness(), run_on(TEST, protocol))
    for name in ("dice", "iou", "recall", "precision", "pixel_auc", "pixel_ap", "aupro",
                 "aupro_pooled", "pointing_game", "oracle_dice"):  # fmt: skip
        assert scores[name].value == pytest.approx(1.0), name
    assert scores["signed_cnr"].value > 5


def test_medklips_threshold_is_for_attention_alone() -> None:
    run = run_on(TEST, "medklip", valid=spots(0, "v"))
    scores = scores_of(Attention(), run)
    assert run.details["threshold"] == {"value": grounding.MEDKLIP_THRESHOLD, "from": "protocol"}
    assert scores["recall"].value == pytest.approx(1.0)
    with pytest.raises(Unsupported, match="attention weights of a model that matches findings"):
        ground.predict(Brightness(), run_on(TEST, "medklip"))


def test_where_the_threshold_is_from() -> None:
    cases = [
        (Attention(), "g2d", "model"),
        (Attention(), "valid", "validation"),
        (Brightness(), "g2d", "validation"),
    ]
    for model, protocol, origin in cases:
        run = run_on(TEST, protocol)
        table = ground.predict(model, run)
        assert run.details["threshold"]["from"] == origin
        assert (table["threshold"] == run.details["threshold"]["value"]).all()


def test_one_finding_is_asked_alone_and_has_a_threshold_of_its_own() -> None:
    both = {"Spot": (2, 2, 8, 8), "Other": (20, 20, 30, 30)}
    test = dataset([sample("a", both), sample("b", {"Other": (3, 3, 9, 9)})])
    model = Brightness()
    protocol = replace(ground.PROTOCOLS["valid"], findings=("Spot",))
    table = ground.predict(model, replace(run_on(test, "valid"), protocol=protocol))
    assert set(model.asked) == {("spot",)}
    assert table[["id", "finding"]].to_numpy().tolist() == [["a", "Spot"]]
    absent = replace(protocol, findings=("Mass",))
    with pytest.raises(BadData, match="has Mass annotated"):
        ground.predict(model, replace(run_on(test, "valid"), protocol=absent))


def test_a_phrase_is_asked_as_it_is_and_alone() -> None:
    test = dataset(
        [
            sample("a", {"Small left EFFUSION": (2, 2, 8, 8), "Lines_and tubes": (20, 20, 26, 26)}),
            sample("b", {"small opacity.": (2, 2, 8, 8)}),
        ],
        PHRASES,
    )
    model = Brightness()
    run = run_on(test, "biovil", valid=dataset([sample("v", {"x": (1, 1, 9, 9)})], PHRASES))
    table = ground.predict(model, run)
    assert model.asked[:3] == [("Lines_and tubes",), ("Small left EFFUSION",), ("small opacity.",)]
    assert table["finding"].tolist() == ["Lines_and tubes", "Small left EFFUSION", "small opacity."]
    assert set(table["group"]) == {"phrases"}
    scores = ground.score(table, run.protocol)
    assert [name for name in scores if name.startswith("recall")] == ["recall", "recall:phrases"]
    # The mean is over phrases: 36 bright pixels of 72 are of one phrase, half of them right.
    assert scores["recall"].value == pytest.approx(1.0)
    assert scores["dice"].value == pytest.approx((2 * 2 * 36 / (72 + 36) + 1) / 3)
    assert (scores["recall"].n, scores["recall:phrases"].n) == (2, 2)


def test_phrases_do_not_depend_on_order_or_on_batch_size() -> None:
    samples = [sample(f"i{n}", {f"phrase {n}": (n, 2, n + 6, 9)}) for n in range(7)]
    valid = dataset(samples[:2], PHRASES)
    one = ground.predict(Brightness(), run_on(dataset(samples, PHRASES), valid=valid, batch_size=1))
    other = ground.predict(
        Brightness(), run_on(dataset(samples[::-1], PHRASES), valid=valid, batch_size=64)
    )
    pd.testing.assert_frame_equal(
        one, other.sort_values(["id", "finding"], ignore_index=True), check_exact=True
    )


@pytest.mark.parametrize("protocol", ["g2d", "biovil", "valid"])
def test_the_cache_changes_nothing(protocol: str, tmp_path: Path) -> None:
    one = ground.predict(Brightness(), run_on(TEST, protocol))
    features = FeatureFolder(tmp_path)
    for size in (3, 64):
        again = ground.predict(
            Brightness(), run_on(TEST, protocol, batch_size=size, features=features)
        )
        pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert any(path.is_file() for path in tmp_path.rglob("*"))


def test_noise_scores_chance() -> None:
    scores = scores_of(Brightness(), run_on(spots(60, "n", signal=False)))
    assert scores["pixel_auc"].low < 0.5 < scores["pixel_auc"].high
    assert scores["signed_cnr"].low < 0 < scores["signed_cnr"].high
    assert scores["cnr"].low > 0  # because of the absolute value
    assert scores["aupro"].value == pytest.approx(0.15, abs=0.02)


def stored(grid: NDArray[np.float32], truth: NDArray[np.bool_], name: str = "a") -> dict[str, Any]:
    height, width = truth.shape
    return {
        "id": name, "patient": f"p{name}", "finding": "Spot", "group": "Spot",
        "grid_h": height, "grid_w": width, "grid": grid.ravel().tolist(),
        "height": height, "width": width, "size": width, "scale_x": 1.0, "scale_y": 1.0,
        "offset_x": 0.0, "offset_y": 0.0, "resampling": "nearest", "threshold": 0.25,
        "truth": rle.encode(truth),
    }  # fmt: skip


def score(*rows: dict[str, Any]) -> dict[str, Any]:
    return ground.score(pd.DataFrame(rows), ground.PROTOCOLS["g2d"])


def test_metrics_by_hand_and_by_sklearn() -> None:
    generator = np.random.default_rng(0)
    grid = generator.random((10, 10)).astype(np.float32)
    truth = np.zeros((10, 10), bool)
    truth[2:4, 3:6] = True
    scores = score(stored(grid, truth))
    predicted = grid > 0.25
    assert scores["precision"].value == pytest.approx((predicted & truth).sum() / predicted.sum())
    assert scores["pixel_auc"].value == pytest.approx(roc_auc_score(truth.ravel(), grid.ravel()))
    ious = [
        ((grid > cut) & truth).sum() / ((grid > cut) | truth).sum()
        for cut in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    assert scores["miou"].value == pytest.approx(np.mean(ious))
    assert scores["share_inside"].value == pytest.approx(grid[truth].sum() / grid.sum(), rel=1e-5)
    assert abs(scores["signed_cnr"].value) == pytest.approx(scores["cnr"].value)


def test_findings_by_size() -> None:
    """Of 100 pixels: 1 is small, 4 medium, 36 large."""
    rows = []
    for name, side in (("s", 1), ("m", 2), ("l", 6)):
        truth = np.zeros((10, 10), bool)
        truth[:side, :side] = True
        grid = truth.astype(np.float32) if name != "m" else 1 - truth.astype(np.float32)
        rows.append(stored(grid, truth, name))
    scores = score(*rows)
    assert [scores[f"dice_{size}"].value for size in ("small", "medium", "large")] == [1, 0, 1]
    assert [scores[f"dice_{size}"].n for size in ("small", "medium", "large")] == [1, 1, 1]
    assert scores["dice"].value == pytest.approx(2 / 3)


def test_predictions_of_earlier_versions_are_still_scored() -> None:
    truth = np.zeros((10, 10), bool)
    truth[2:4, 3:6] = True
    row = stored(truth.astype(np.float32), truth)
    old = {name: value for name, value in row.items() if name != "group"}
    assert repr(score(old)) == repr(score(row))


def test_a_missing_patient_is_named() -> None:
    truth = np.ones((4, 4), bool)
    row = stored(np.ones((4, 4), np.float32), truth)
    with pytest.raises(BadResult, match="image 'a' has no patient"):
        score({**row, "patient": None}, {**row, "id": "b"})


def test_ms_cxr_is_a_data_set_of_phrases() -> None:
    phrases = [card.name for card in Registry().cards(DatasetCard) if card.phrases]
    assert phrases == ["ms_cxr"]
