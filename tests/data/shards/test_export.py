"""Exported shards: rows and pixels of the store, reproducible bytes, no partial exports."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.data.shards import exported, opened, the_store
from typer.testing import CliRunner

from g2dbench.cards import DatasetCard
from g2dbench.cli import app
from g2dbench.data.images.image_file import decode_image
from g2dbench.data.prepare import prepare
from g2dbench.data.reports.cleaning import CLEANINGS
from g2dbench.data.shards import export as exporting
from g2dbench.data.shards.files import open_shard
from g2dbench.data.shards.remote import StorageLocation
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.training.batches.pair_loader import find_pairs
from g2dbench.training.batches.shard_blocks import BlockRequest, ShardFormat, read_samples

pytestmark = pytest.mark.integration

KINDS = ("parquet", "webdataset")
SUFFIX = {"parquet": "parquet", "webdataset": "tar"}


@pytest.mark.parametrize("kind", KINDS)
def test_shards_hold_the_rows_of_the_store(small_store: Path, tmp_path: Path, kind: Any) -> None:
    store = the_store(small_store)
    index = exported(small_store, tmp_path, kind)
    at = {name: row for row, name in enumerate(store.table["id"])}
    seen = []
    for shard in index.shards:
        reader = open_shard(tmp_path / shard.name, kind, shard.name)
        assert len(reader) == shard.rows <= 12
        numbers = range(len(reader))
        metadata = list(reader.metadata(numbers, index.columns))
        for one, data in zip(metadata, reader.images(numbers, index.columns), strict=True):
            sample = store[at[one.id]]
            seen.append(one.id)
            assert (one.study, one.view, one.split) == (sample.study, sample.view, sample.split)
            assert one.report == sample.report
            assert one.split == shard.name.split("-")[0]
            assert data is not None
            image, _ = decode_image(data, Path("x"), None)
            assert np.array_equal(image, sample.image)
    assert sorted(seen) == sorted(store.table["id"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_counts_what_training_from_the_store_would_find(
    small_store: Path, tmp_path: Path, kind: Any
) -> None:
    store = the_store(small_store)
    index = exported(small_store, tmp_path, kind)
    for split in ("train", "valid"):
        for cleaning in CLEANINGS:
            for views in ("all", "frontal"):
                found = find_pairs(store.split(split), views, cleaning)  # type: ignore[arg-type]
                counted = [len(shard.pairs(split, views, cleaning)) for shard in index.shards]  # type: ignore[arg-type]
                assert sum(counted) == len(found)
    assert index.rows == 120
    assert index.store == store.fingerprint
    assert index.card["name"] == "synthetic"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_store_gives_the_same_bytes(small_store: Path, tmp_path: Path, kind: Any) -> None:
    one, other = (exported(small_store, tmp_path / name, kind) for name in "ab")
    assert one == other
    for shard in one.shards:
        assert (tmp_path / "a" / shard.name).read_bytes() == (
            tmp_path / "b" / shard.name
        ).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_datasets_and_our_own_reader_open_the_shards(
    small_store: Path, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    store = the_store(small_store)
    out = tmp_path / "out"
    exported(small_store, out, kind, images=60)
    files = {"train": sorted(map(str, out.glob(f"train-*.{SUFFIX[kind]}")))}
    plain = datasets.load_dataset(kind, data_files=files)["train"]
    by_folder = datasets.load_dataset(str(out))
    assert {name: len(part) for name, part in by_folder.items()} == {
        {"valid": "validation"}.get(split, split): count
        for split, count in store.table["split"].value_counts().items()
    }
    row = plain[0]
    name = row["__key__"]
    sample = store[list(store.table["id"]).index(name)]
    image = row["image"] if kind == "parquet" else row["png"]
    report = row["report"] if kind == "parquet" else row["txt"]
    assert np.array_equal(np.asarray(image), sample.image)
    assert report == (sample.report or "")
    again = prepare(
        "hf", out, tmp_path / "again",
        progress=quiet, registry=Registry(), size=64, own_name="again",
    )  # fmt: skip
    assert len(again) == len(store)
    for mine, theirs in zip(again, store, strict=True):
        assert np.array_equal(mine.image, theirs.image)
        for field in ("id", "patient", "study", "view", "sex", "age", "split"):
            assert getattr(mine, field) == getattr(theirs, field), field
        assert mine.report == theirs.report


def test_ids_become_valid_member_names(small_store: Path, tmp_path: Path) -> None:
    for name in ("p10/s5/a.b.jpg", "../../etc/x", "100%", "ü", ".hidden"):
        key = exporting._member_name(name)
        assert "/" not in key
        assert "." not in key
    keys = {exporting._member_name(name) for name in ("a.b", "a/b", "a%2Eb", "a%2Fb")}
    assert len(keys) == 4


def test_an_unfinished_export_is_overwritten_and_a_finished_one_is_not(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count = StorageLocation.write, []

    def failing(self: StorageLocation, name: str, data: bytes) -> None:
        count.append(name)
        if len(count) == 4:
            raise BadData("the disk is full")
        write(self, name, data)

    monkeypatch.setattr(StorageLocation, "write", failing)
    with pytest.raises(BadData, match="full"):
        exported(small_store, tmp_path / "out")
    assert not (tmp_path / "out/shards.json").exists()
    assert len(list((tmp_path / "out").iterdir())) == 3
    monkeypatch.setattr(StorageLocation, "write", write)
    whole = exported(small_store, tmp_path / "out")
    assert whole == exported(small_store, tmp_path / "other")
    with pytest.raises(Misuse, match="finished export"):
        exported(small_store, tmp_path / "out")
    (tmp_path / "out/shards.json").unlink()
    with pytest.raises(Misuse, match="other files"):
        exported(small_store, tmp_path / "out", images=40)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(Misuse, match=r"thesis\.txt"):
        exported(small_store, tmp_path / "out")
    with pytest.raises(Misuse, match="cannot be written to"):
        exported(small_store, "http://127.0.0.1:9/x")


def test_export_to_and_streaming_from_an_in_memory_file_system(
    small_store: Path, tmp_path: Path
) -> None:
    address = f"memory://{tmp_path.name}"
    index = exported(small_store, address, "webdataset")
    stream = opened(address, tmp_path)
    assert stream.index == index
    assert stream.card.name == "synthetic"


def test_the_export_command_and_its_errors(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*map(str, words), "--store", str(small_store)])
        return done.exit_code, " ".join(done.output.split())

    asked = ("data", "export", "synthetic:120", "--size", 64, "--out", tmp_path / "s")
    code, said = run(*asked, "--format", "webdataset", "--shard-images", 40)
    assert code == 0
    assert "exported 120 images (91 train, 8 valid pairs) as 5 shards" in said
    assert f"wrote{tmp_path}/s/shards.json" in said.replace(" ", "")  # lines are wrapped
    for words, reason in (
        ((*asked, "--format", "zip"), "--format 'zip' is unknown: parquet or webdataset"),
        (asked, "holds a finished export"),
        (("pretrain", "--data", f"stream:{tmp_path}/s"), "64 px, the recipe wants 128 px"),
        (("pretrain", "--data", f"stream:{tmp_path}/s", "--option", "x"), "write KEY=VALUE"),
        (("eval", "--data", f"stream:{tmp_path}/s", "--task", "zero"), "stream"),
    ):
        code, said = run(*words)
        assert code == 2
        assert reason in said
    code, said = run("pretrain", "--data", f"stream:{tmp_path}/none", "--device", "cpu")
    assert code == 1
    assert "holds no *.parquet and no *.tar" in said


def test_licenses_that_forbid_sharing_give_a_warning() -> None:
    cards = {card.name: card for card in Registry().cards(DatasetCard)}
    told = {name for name, card in cards.items() if exporting.license_warning(card.licence)}
    assert {"mimic_cxr", "chexpert", "padchest", "ms_cxr", "rsna", "open_i"} <= told
    assert not told & {"synthetic", "nih_cxr14", "pairs", "tbx11k"}


def test_samples_of_a_shard_equal_those_of_the_store(small_store: Path, tmp_path: Path) -> None:
    store = the_store(small_store)
    index = exported(small_store, tmp_path)
    shard = index.shards[0]
    rows = tuple(shard.pairs("train", "all", "raw").tolist())
    layout = ShardFormat("parquet", index.columns, 32, "raw")
    samples, broken = read_samples(layout, BlockRequest(0, "x", tmp_path / shard.name, rows, rows))
    assert not broken
    assert len(samples) == len(rows) > 0
    pictures = {sample.id: sample.image for sample in store}
    for sample in samples:
        assert min(sample.image.shape) == 32  # reduced, as preparing would have
        whole = Image.fromarray(pictures[sample.id]).resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(sample.image, np.asarray(whole))
    assert json.loads((tmp_path / "shards.json").read_text())["rows"] == 120
