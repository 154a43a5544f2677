"""Published splits equal those of the authors' code and lists, and leaks are reported."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from g2dbench.cli.open_data import open_data
from g2dbench.data.prepare import find_store, prepare, require_store
from g2dbench.data.readers import rsna, siim
from g2dbench.data.splits.published import PublishedSplit, Split, assign, read_list
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import describe, verify
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Record

REGISTRY = Registry()
RSNA = 26_684
"""Number of patients of stage 2."""


def records(names: Sequence[str], patients: Sequence[str] | None = None) -> list[Record]:
    owners = patients or names
    return [
        Record(id=name, path=Path(f"{name}.png"), patient=owner)
        for name, owner in zip(names, owners, strict=True)
    ]


def names_of(count: int, seed: int = 0) -> list[str]:
    numbers = np.random.default_rng(seed).choice(10**9, count, replace=False)
    return [f"{number:09x}" for number in numbers]


def mgca(names: Sequence[str], held_out: float | int) -> dict[str, str]:
    """The steps of MGCA on a table with one row per box, written with pandas."""
    generator = np.random.default_rng(1)
    rows = [name for name in names for _ in range(generator.integers(1, 4))]
    generator.shuffle(rows)
    frame = pd.DataFrame({"patientId": rows, "bbox": 0})
    frame = frame.groupby("patientId").agg(list).reset_index()
    train, rest = train_test_split(frame, test_size=held_out, random_state=0)
    test, valid = train_test_split(rest, test_size=0.5, random_state=0)
    parts = {"train": train, "valid": valid, "test": test}
    return {name: split for split, part in parts.items() for name in part["patientId"]}


@pytest.mark.parametrize(
    ("preset", "held_out", "sizes"),
    [("mgca", 0.15 * 2, (18_678, 4_003, 4_003)), ("mgca-det", 5337 * 2, (16_010, 5_337, 5_337))],
)
def test_mgca_splits_of_rsna_equal_those_of_its_code(
    preset: str, held_out: float, sizes: tuple[int, int, int]
) -> None:
    names = names_of(RSNA)
    found = assign(Split(preset), "rsna", rsna, Path(), records(names), names)
    is_equal = found.splits == mgca(names, held_out)
    assert is_equal
    assert Counter(found.splits.values()) == dict(
        zip(("train", "valid", "test"), sizes, strict=True)
    )
    assert found.warnings == ()


def test_missing_and_broken_images_do_not_move_the_others() -> None:
    names = names_of(RSNA)
    whole = assign(Split("mgca-det"), "rsna", rsna, Path(), records(names), names)
    some = assign(Split("mgca-det"), "rsna", rsna, Path(), records(names[:100]), names[::-1])
    is_equal = some.splits == whole.splits
    assert is_equal


def test_a_published_split_of_an_excerpt_is_refused() -> None:
    names = names_of(120)
    with pytest.raises(BadData, match="mgca-det of rsna cannot be computed from 120 images"):
        assign(Split("mgca-det"), "rsna", rsna, Path(), records(names), names)
    with pytest.raises(BadData, match="18,678 train images, these tables or lists give 84: they"):
        assign(Split("mgca"), "rsna", rsna, Path(), records(names), names)


def siim_table(root: Path) -> list[str]:
    """A table with 12,954 rows of 12,047 images, as the official one; up to 4 rows per image."""
    names = names_of(12_047, seed=2)
    extra = np.random.default_rng(3).choice(names[:700], 907)
    rows = [*names, *extra]
    np.random.default_rng(4).shuffle(rows)
    (root / "train-rle.csv").write_text(
        "ImageId, EncodedPixels\n" + "".join(f"{name}, -1\n" for name in rows)
    )
    return rows


def test_mgca_split_of_siim_by_row_is_used_with_its_leak(tmp_path: Path) -> None:
    rows = siim_table(tmp_path)
    names = sorted(set(rows))
    found = assign(Split("mgca"), "siim", siim, tmp_path, records(names), names)
    train, rest = train_test_split(pd.Series(rows), test_size=0.15 * 2, random_state=0)
    test, valid = (set(part) for part in train_test_split(rest, test_size=0.5, random_state=0))
    tested = {name for name, split in found.splits.items() if split == "test"}
    assert not tested ^ test
    assert not {name for name, split in found.splits.items() if split == "valid"} ^ (valid - test)
    shared = len(set(train) & test)
    assert shared > 0
    assert any(f"train and test share {shared:,} images" in text for text in found.warnings)


def mrm_lists(folder: Path) -> Split:
    """Lists that overlap as much as those of MRM for SIIM."""
    names = names_of(10_675, seed=5)
    train, valid, test = names[:7_969], [], []
    valid = [*train[:478], *names[7_969:9_389]]
    test = [*train[478:972], *valid[-124:], *names[9_389:]]
    files = []
    for side, part in (("train", train), ("valid", valid), ("test", test)):
        path = folder / f"{side}.txt"
        path.write_text("".join(f"images/{name}.png 0\n" for name in part))
        files.append((side, path))
    return Split("mrm", tuple(files))


def test_leaking_lists_are_used_with_a_warning_that_counts(tmp_path: Path) -> None:
    split = mrm_lists(tmp_path)
    names = names_of(10_675, seed=5)
    found = assign(split, "siim", siim, tmp_path, records(names), names)
    assert len(found.splits) == 10_675
    assert Counter(found.splits.values())["train"] == 7_969 - 478 - 494
    text_of_warnings = " ".join(found.warnings)
    for text in (
        "train and valid share 478 images",
        "train and test share 494 images",
        "valid and test share 124 images",
    ):
        assert f"the split mrm of siim (MRM, DatasetsSplits/) leaks: {text}" in text_of_warnings


def test_patients_in_two_splits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [("a", "train"), ("b", "test"), ("c", "test"), ("c", "test")]
    monkeypatch.setitem(rsna.PUBLISHED_SPLITS, "toy", PublishedSplit("toy", draw=lambda *_: listed))
    found = assign(
        Split("toy"), "rsna", rsna, Path(), records(["a", "b", "c"], ["p", "p", "q"]), []
    )
    assert found.warnings == (
        "the split toy of rsna (toy) leaks: train and test share 1 patients",
        "the split toy of rsna (toy) names 1 images again on the side where they are",
    )


@pytest.mark.parametrize(
    "text",
    [
        "a.png,0\nb.2.jpg,1\n", "images/a.png 0\nimages/b.2.jpg 1\n",
        "\ufeffImageId,label\na,0\nb.2,1\n",
        "label,Path\n0,CheXpert/train/a.jpg\n1,x\\b.2.png\n", "a\n\nb.2\n",
    ],
)  # fmt: skip
def test_ids_are_read_from_every_format_of_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text, encoding="utf-8")
    assert read_list(tmp_path / "list", "train") == [("a", "train"), ("b.2", "train")]


def test_a_table_gives_ids_and_splits_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("split,id\ntrain,a\ntest,b.png\n")
    assert read_list(path) == [("a", "train"), ("b", "test")]
    path.write_text("split,id\ndev,a\n")
    with pytest.raises(BadData, match="names the split 'dev'"):
        read_list(path)
    path.write_text("a,train\n")
    with pytest.raises(BadData, match="needs the columns id and split"):
        read_list(path)
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(BadData, match="cannot be read"):
        read_list(path)


def test_impossible_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="'rsna' has no split 'mgcaa'; it has: g2dbench, official"):
        make(make_root(tmp_path / "root"), tmp_path / "store", Split("mgcaa"))
    with pytest.raises(Misuse, match="--split-file needs --split"):
        Split.parse(None, ["train=x"])
    with pytest.raises(Misuse, match="the splits are train, valid, test"):
        Split.parse("mrm", ["dev=x"])
    with pytest.raises(Misuse, match="it has: g2dbench, official, mgca, mrm, benchx"):
        assign(Split("kad"), "siim", siim, tmp_path, [], [])
    with pytest.raises(Misuse, match="--split-file train=FILE"):
        assign(Split("mrm"), "siim", siim, tmp_path, [], [])
    with pytest.raises(BadData, match="has no official split"):
        assign(Split("official"), "rsna", rsna, tmp_path, records(["a"]), ["a"])
    assert Split.parse("mrm", ["train=a=b"]).files == (("train", Path("a=b")),)


def make_root(root: Path, count: int = 12) -> Path:
    folder = root / "stage_2_train_images"
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{index:02d}.png")
    rows = "".join(f"p{index:02d},,,,,0\n" for index in range(count))
    (root / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\n" + rows)
    return root


def make(root: Path, store: Path, split: Split | None = None) -> Store:
    return prepare(
        "rsna", root, store, progress=quiet, registry=REGISTRY, size=16, split=split
    )  # fmt: skip


def test_a_split_from_a_list_has_its_own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rsna.PUBLISHED_SPLITS, "benchx", PublishedSplit("toy"))
    root, store = make_root(tmp_path / "root"), tmp_path / "s"
    table = tmp_path / "table.csv"
    table.write_text("id,split\np01,train\np02,valid\np03,test\np04,test\np99,train\n")
    split = Split.parse("benchx", [str(table)])
    ours, theirs = make(root, store), make(root, store, split)
    assert ours.folder != theirs.folder
    assert ours.folder.name == make(root, tmp_path / "t").folder.name
    assert [(sample.id, sample.split) for sample in theirs] == [
        ("p01", "train"), ("p02", "valid"), ("p03", "test"), ("p04", "test"),
    ]  # fmt: skip
    found = theirs.manifest.summary
    assert (found.listed, found.stored, found.unlisted, found.leaks) == (12, 4, 8, ())
    assert "8 are not in the split benchx" in describe(theirs)
    assert find_store("rsna", None, store).folder == ours.folder
    assert (
        require_store("rsna", None, store, registry=REGISTRY, split="benchx").folder
        == theirs.folder
    )
    named = open_data("rsna@benchx", None, store, None, REGISTRY)
    assert (named.card.name, len(named)) == ("rsna@benchx", 4)
    table.write_text("id,split\np01,train\np02,valid\n")
    assert make(root, store, split).folder not in (ours.folder, theirs.folder)


def test_verify_reports_a_known_leak_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [("p01", "train"), ("p01", "test"), ("p02", "valid")]
    monkeypatch.setitem(
        rsna.PUBLISHED_SPLITS, "mgca", PublishedSplit("toy", draw=lambda *_: listed)
    )
    made = make(make_root(tmp_path / "root"), tmp_path / "s", Split("mgca"))
    leak = "train and test share 1 images"
    assert leak in str(verify(made, quiet))
    assert "WARNING" in describe(made)
    assert leak in describe(made)
    assert made[0].split == "test"


def test_embedded_sets_have_their_own_split(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="generated with its own split"):
        prepare(
            "synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, split=Split("mgca")
        )  # fmt: skip
