"""Splits of Object-CXR and COVIDx equal those of MGCA and BenchX."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from g2dbench.data.readers import covidx, object_cxr
from g2dbench.data.readers.covidx import listed_images
from g2dbench.data.splits.published import Split, assign, read_list
from g2dbench.errors import BadData
from g2dbench.sample import Record

pytestmark = pytest.mark.integration


def records(names: list[str]) -> list[Record]:
    return [Record(id=name, path=Path(name), patient=name) for name in names]


def test_object_cxr_split_equals_that_of_mgca(tmp_path: Path) -> None:
    names = [f"{number:05d}.jpg" for number in np.random.default_rng(0).permutation(9000)]
    for part, rows in (("train", names[:8000]), ("dev", names[8000:])):
        frame = pd.DataFrame(
            {"image_name": rows, "annotation": ["0 1 2 3 4", ""] * (len(rows) // 2)}
        )
        frame.to_csv(tmp_path / f"{part}.csv", index=False)
    ids = [name.removesuffix(".jpg") for name in names]
    found = assign(Split("mgca"), "object_cxr", object_cxr, tmp_path, records(ids), ids)
    train, valid = train_test_split(
        pd.read_csv(tmp_path / "train.csv"), test_size=0.1, random_state=0
    )
    expected = dict.fromkeys(train["image_name"], "train") | dict.fromkeys(
        valid["image_name"], "valid"
    )
    expected |= dict.fromkeys(names[8000:], "test")
    assert found.splits == {name.removesuffix(".jpg"): side for name, side in expected.items()}
    assert found.warnings == ()
    assert object_cxr.PUBLISHED_SPLITS["mgca"].counts == (7_200, 800, 1_000)


def test_an_excerpt_of_object_cxr_is_refused(tmp_path: Path) -> None:
    for part in ("train", "dev"):
        (tmp_path / f"{part}.csv").write_text("image_name,annotation\n" + "00001.jpg,\n" * 20)
    with pytest.raises(BadData, match="7,200 train images"):
        assign(Split("mgca"), "object_cxr", object_cxr, tmp_path, records(["00001"]), ["00001"])


def covidx_lists(root: Path, edition: str, counts: dict[str, int]) -> dict[str, list[str]]:
    """Write the lists of a release, in an order that is not alphabetical."""
    generator = np.random.default_rng(len(edition))
    found = {}
    for part, count in counts.items():
        numbers = generator.choice(10**9, count, replace=False)
        found[part] = [f"CR.1.2.{edition}.{part}{number}.png" for number in numbers]
        classes = generator.choice(["normal", "pneumonia", "COVID-19"], count)
        lines = [
            f"p{i} {n} {c} rsna" for i, (n, c) in enumerate(zip(found[part], classes, strict=True))
        ]
        (root / f"{part}{edition}.txt").write_text("".join(f"{line}\n" for line in lines))
    return found


def test_covidx_split_equals_that_of_mgca(tmp_path: Path) -> None:
    lists = covidx_lists(tmp_path, "_9A", {"train": 1003, "test": 400})
    covidx_lists(tmp_path, "_5", {"train": 500, "test": 300})
    names = [*lists["train"], *lists["test"]]
    assert listed_images(tmp_path, names) == lists
    found = assign(Split("mgca"), "covidx", covidx, tmp_path, records(names), names)
    frame = pd.read_csv(tmp_path / "train_9A.txt", sep=" ", header=None)
    train, valid = train_test_split(frame, train_size=0.8, random_state=0)
    assert {name for name, side in found.splits.items() if side == "train"} == set(train[1])
    assert {name for name, side in found.splits.items() if side == "valid"} == set(valid[1])
    assert Counter(found.splits.values()) == {"train": 802, "valid": 201, "test": 400}


def test_benchx_split_of_covidx_equals_the_lists_of_a_release(tmp_path: Path) -> None:
    counts = {"train": 67_863, "val": 8_473, "test": 8_482}
    lists = covidx_lists(tmp_path, "", counts)
    names = [name for part in lists.values() for name in part]
    found = assign(Split("benchx"), "covidx", covidx, tmp_path, records(names), names)
    assert Counter(found.splits.values()) == {"train": 67_863, "valid": 8_473, "test": 8_482}
    assert found.splits[lists["val"][0]] == "valid"
    given = tuple(
        (side, tmp_path / f"{part}.txt")
        for side, part in (("train", "train"), ("valid", "val"), ("test", "test"))
    )
    assert (
        assign(Split("benchx", given), "covidx", covidx, tmp_path, records(names), names) == found
    )


def test_a_list_without_header_names_images_by_their_extension(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("3 SARS-Fig8a.jpeg pneumonia cohen\nMIDRC-1 MIDRC-1.0.png positive ricord\n")
    assert read_list(path, "train") == [("SARS-Fig8a", "train"), ("MIDRC-1.0", "train")]
