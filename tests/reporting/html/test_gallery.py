"""Galleries: which cases are shown, and overlays in the pixels of the small image."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from g2dbench.data.annotations import rle
from g2dbench.errors import BadData, BadResult
from g2dbench.reporting.errors.case_overlays import Films
from g2dbench.reporting.html import gallery
from g2dbench.sample import Box, Sample


class Images:
    """Four images of 100 x 512 pixels, twice as wide as a shown image."""

    def __init__(self) -> None:
        self.table = pd.DataFrame({"id": [f"i{at}" for at in range(4)]})
        self.card = type("Card", (), {"name": "films"})

    def __getitem__(self, at: int) -> Sample:
        image = np.full((100, 512), at, np.uint8)
        boxes = (Box("nodule", 100, 10, 200, 50), Box("edema", 0, 0, 9, 9))
        return Sample(id=f"i{at}", image=image, patient="p", boxes=boxes)


def films() -> Films:
    images: Any = Images()
    return Films(images)


def rows(**columns: object) -> pd.DataFrame:
    keys = {"id": [f"i{at}" for at in range(4)], "patient": "p", "finding": "nodule"}
    return pd.DataFrame({**keys, **columns})


def test_ground_truth_of_the_finding_is_drawn_at_the_scale_of_the_small_image() -> None:
    pictures = gallery.Pictures()
    table = rows(truth=[1, 1, 0, 0], score=[0.9, 0.1, 0.8, 0.2], claim=[1, 0, 1, 0])
    cards = gallery.gallery_cards(table, "films", films(), pictures)
    assert [(card["id"], card["kind"]) for card in cards] == [
        ("i0", "true positive"), ("i2", "false positive"), ("i1", "miss"),
    ]  # fmt: skip
    assert cards[0]["truth"] == [[50.0, 5.0, 100.0, 25.0]]
    assert [(each["width"], each["height"]) for each in pictures.stored] == [(256, 50)] * 3


def test_detections_are_drawn_from_the_surest_and_without_the_unlikely() -> None:
    boxes = [[0.0, 0.0, 20.0, 20.0, 40.0, 40.0, 80.0, 80.0]] * 4
    table = rows(boxes=boxes, scores=[[0.3, 0.01]] * 4, truth=[[40.0, 40.0, 80.0, 80.0]] * 4)
    (card, *_) = gallery.gallery_cards(table, "films", films(), gallery.Pictures())
    assert card["predicted"] == [[0.0, 0.0, 10.0, 10.0]]
    assert card["confidences"] == [0.3]
    assert card["truth"] == [[20.0, 20.0, 40.0, 40.0]]


def test_masks_become_paths_and_must_have_the_size_of_the_image() -> None:
    mask = np.zeros((100, 512), bool)
    mask[10:20, 40:60] = True
    text = rle.encode(mask)
    table = rows(truth=[text] * 4, predicted=[text] * 4, height=100, width=512)
    (card, *_) = gallery.gallery_cards(table, "films", films(), gallery.Pictures())
    assert card["truth_outline"] == card["predicted_outline"]
    assert card["truth_outline"].startswith("M20.2 5.2L")
    small = rle.encode(mask[:50, :200])
    broken = rows(truth=[small] * 4, predicted=[small] * 4, height=50, width=200)
    with pytest.raises(BadResult, match="size of the evaluation"):
        gallery.gallery_cards(broken, "films", films(), gallery.Pictures())


def test_an_image_is_stored_once_and_an_unknown_one_is_an_error() -> None:
    pictures = gallery.Pictures()
    table = rows(truth=1.0, score=0.9, claim=1.0)
    for _ in range(2):
        gallery.gallery_cards(table, "films", films(), pictures)
    assert len(pictures.stored) == 4
    with pytest.raises(BadData, match="'x'"):
        gallery.gallery_cards(table.assign(id="x"), "films", films(), pictures)


def test_each_finding_and_kind_has_its_share() -> None:
    table = pd.DataFrame({
        "id": [f"i{at}" for at in range(40)], "patient": "p", "finding": ["a", "b"] * 20,
        "truth": [0.0, 0.0, 1.0, 1.0] * 10, "score": np.linspace(0, 1, 40), "claim": 1.0,
    })  # fmt: skip
    chosen = gallery.select(gallery.find_cases(table), 3)
    counts = pd.Series([(case.finding, case.kind) for case in chosen]).value_counts()
    assert set(counts) == {3}
    assert len(counts) == 4
