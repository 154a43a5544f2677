"""MAVL's folder with gaps, and texts that are no entry of its book."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models.small_baselines import load
from support.originals import seeded
from support.originals.image_text import mavl

from g2dbench.errors import BadCheckpoint, Misuse

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


@torch.no_grad()
def test_a_text_takes_the_place_of_a_76th_disease_and_changes_no_other(
    written: Callable[[Any], Path],
) -> None:
    model: Any = load("mavl", written(mavl).parent)
    images = model.preprocess.batch(seeded.radiographs()[:1])
    alone = model.match(images, ["pneumonia", "a new finding"])
    both = model.match(images, ["covid19", "a new finding", "pneumonia"])
    torch.testing.assert_close(alone[:, 0], both[:, 2])
    torch.testing.assert_close(alone[:, 1], both[:, 1])
    assert model.locate(images, ["a new finding"]).shape == (1, 1, 14, 14)
    patches = model.network.patches(images)
    nine = model.encode(["a new finding"] * 9)
    wanted = model.network.decode(torch.cat([model.book, nine]), patches)[0][:, -1]
    torch.testing.assert_close(alone[:, 1], wanted)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("gpt4_mimic.json", None, r"does not contain gpt4_mimic\.json"),
        ("observation explanation.json", None, "does not contain observation explanation"),
        ("observation explanation.json", {"pneumonia": "a"}, "is not a disease book"),
        ("gpt4_mimic.json", {}, "has not 8 visual aspects for 76 diseases"),
        ("gpt4_mimic.json", {**mavl.aspects(), "covid19": ["one"]}, "for 1 diseases .* 'covid19'"),
    ],
)
def test_books_with_gaps_are_refused(
    own: Callable[[Any], Path], tmp_path: Path, name: str, content: Any, named: str
) -> None:
    file = own(mavl)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(BadCheckpoint, match=named):
        load("mavl", file)


def test_two_checkpoints_are_a_question(own: Callable[[Any], Path], tmp_path: Path) -> None:
    own(mavl)
    (tmp_path / "checkpoint_full_40.pth").symlink_to(tmp_path / "checkpoint_full_46.pth")
    with pytest.raises(Misuse, match=r"choose one of them, as --model mavl:\S+_40\.pth"):
        load("mavl", tmp_path)
