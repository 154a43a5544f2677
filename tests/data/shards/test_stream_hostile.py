"""Shards that are damaged, changed or hostile: each gives a clear error."""

import gzip
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.data.shards import a_loader, edit_index, exported, opened, png, some_members, tar_of

from g2dbench.data.shards import files as shard_files
from g2dbench.errors import BadData, Misuse
from g2dbench.training.batches import shard_loader

pytestmark = pytest.mark.integration


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def ids_of(loader: Any, epoch: int = 0) -> list[str]:
    return [name for batch in loader.epoch(epoch) for name in batch.ids]


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_shard_that_changed_is_named(small_store: Path, tmp_path: Path, kind: Any) -> None:
    index = exported(small_store, tmp_path / "s", kind)
    shard = tmp_path / "s" / index.shards[1].name
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(BadData, match=rf"{shard} has changed since its index.*SHA-256"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path)))
    shard.write_bytes(raw[:-200])
    with pytest.raises(BadData, match=rf"{shard} has .* bytes instead of .*truncated"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_deleted_during_an_epoch_is_named(
    small_store: Path, tmp_path: Path, workers: int
) -> None:
    exported(small_store, tmp_path / "s", "webdataset", 6)
    loader = a_loader(opened(tmp_path / "s", tmp_path, buffer=4), workers=workers)
    batches = loader.epoch(0)
    next(batches)
    for path in (tmp_path / "s").glob("train-*"):
        path.unlink()
    with pytest.raises(BadData, match=r"shard .*train-.*(is gone|cannot be read: No such file)"):
        list(batches)


@pytest.mark.slow
def test_a_shard_that_changes_between_epochs_is_named(small_store: Path, tmp_path: Path) -> None:
    index = exported(small_store, tmp_path / "s", "webdataset", 60)
    loader = a_loader(opened(tmp_path / "s", tmp_path))
    assert ids_of(loader)
    shard = tmp_path / "s" / index.shards[0].name
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(BadData, match="has changed"):
        ids_of(loader, 1)


def put(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda index: index["shards"][0].update({name: value})


BROKEN_INDEX: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "leaves": (put("name", "../../etc/passwd"), "leaves the folder"),
    "absolute": (put("name", "/etc/passwd"), "leaves the folder"),
    "elsewhere": (put("name", "http://evil/x.tar"), "leaves the folder"),
    "rows": (put("rows", 10**12), "rows"),
    "negative": (put("rows", -1), "rows"),
    "hash": (put("sha256", "zz"), "sha256"),
    "short mask": (put("masks", {"train": "AA=="}), "is not for 12 rows"),
    "no base64": (put("masks", {"train": "%%"}), "not base64"),
    "twice": (lambda index: index["shards"].append(index["shards"][0]), "twice"),
    "sum": (lambda index: index.update(rows=3), "not the sum of those of its shards"),
    "kind": (lambda index: index.update(kind="exe"), "kind"),
    "field": (lambda index: index.update(run="rm"), "run"),
    "schema": (lambda index: index.update(schema_version=9), "schema version 9"),
    "card": (lambda index: index["card"].pop("licence"), "not an index"),
    "card's name": (lambda index: index["card"].update(name="../../x"), "not a valid name"),
}


@pytest.mark.parametrize("case", BROKEN_INDEX)
def test_a_broken_index_is_refused(small_store: Path, tmp_path: Path, case: str) -> None:
    change, said = BROKEN_INDEX[case]
    exported(small_store, tmp_path / "s")
    edit_index(tmp_path / "s", change)
    with pytest.raises(BadData, match=said):
        opened(tmp_path / "s", tmp_path)


@pytest.mark.parametrize("text", ["", "null", "[1]", "{" * 100_000, "\xff"])
def test_an_index_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/shards.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadData, match=r"shards\.json (is not an index|has schema)"):
        opened(tmp_path / "s", tmp_path)


def test_hostile_members_of_a_tar_are_not_extracted_or_unpickled(tmp_path: Path) -> None:
    """Absolute and parent paths, links, devices and pickles are read in memory or skipped."""
    bomb = pickle.dumps(Bomb(tmp_path / "pwned"))
    members = [
        ("/abs/a.png", png(1)), ("/abs/a.txt", b"Absolute."),
        ("../../up/b.png", png(2)), ("../../up/b.txt", b"Climbs."), ("../../up/b.pickle", bomb),
        ("c.png", png(3)), ("c.txt", b"Plain."), ("c.pyd", bomb), ("c.pth", bomb),
        ("noextension", b"x"), (".hidden", b"x"),
    ]  # fmt: skip
    path = tar_of(tmp_path / "s/train.tar", members)
    with tarfile.open(path, "a") as tar:
        for name, kind in (("d.png", tarfile.SYMTYPE), ("d.txt", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        member = tarfile.TarInfo("e.png")
        member.type = tarfile.CHRTYPE
        tar.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    found = opened(tmp_path / "s", tmp_path / "store", side=32)
    assert found.index.rows == 3
    assert sorted(ids_of(a_loader(found, batch_size=3))) == ["../../up/b", "/abs/a", "c"]
    after = [path for path in tmp_path.rglob("*") if "store" not in path.parts]
    assert sorted(after) == before


def tar_bytes(tmp_path: Path) -> bytes:
    return tar_of(tmp_path / "whole.tar", some_members(4)).read_bytes()


BROKEN_SHARDS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "empty tar": ("x.tar", lambda _: b"", "cannot be read"),
    "no tar": ("x.tar", lambda _: b"hello" * 1000, "cannot be read"),
    "cut tar": ("x.tar", lambda p: tar_bytes(p)[:3000], "cannot be read|truncated"),
    "no end": ("x.tar", lambda p: tar_bytes(p).rstrip(b"\0") + bytes(100), "truncated|cannot"),
    "packed tar": ("x.tar", lambda p: gzip.compress(tar_bytes(p)), "cannot be read"),
    "empty parquet": ("x.parquet", lambda _: b"", "cannot be read"),
    "no parquet": ("x.parquet", lambda _: b"PAR1" + bytes(100) + b"PAR1", "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN_SHARDS)
def test_a_damaged_shard_without_an_index_is_named(tmp_path: Path, case: str) -> None:
    name, data, said = BROKEN_SHARDS[case]
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).write_bytes(data(tmp_path))
    with pytest.raises(BadData, match=rf"{tmp_path}/s/{name}.*({said})"):
        opened(tmp_path / "s", tmp_path / "store")


def test_the_sizes_of_members_and_texts_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar_of(tmp_path / "s/x.tar", [("a.png", png()), ("a.txt", b"x" * 5_000_000)])
    with pytest.raises(BadData, match="a member has 5,000,000 bytes; at most 4,000,000"):
        opened(tmp_path / "s", tmp_path)
    tar_of(tmp_path / "s/x.tar", some_members(4))
    monkeypatch.setattr(shard_files, "MAX_BYTES", 20)
    with pytest.raises(BadData, match="at most 20 are read"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path), batch_size=2))
    tar_of(tmp_path / "s/x.tar", [("a.png", png()), ("a.png", png()), ("a.txt", b"x")])
    with pytest.raises(BadData, match=r"the member 'a\.png' twice"):
        opened(tmp_path / "s", tmp_path)
    tar_of(tmp_path / "s/x.tar", [("a.png", png()), ("a.txt", b"\xff\xfe")])
    with pytest.raises(BadData, match="txt is not UTF-8"):
        opened(tmp_path / "s", tmp_path)


def images_of(count: int, broken: dict[int, bytes]) -> list[tuple[str, bytes]]:
    members = some_members(count)
    for row, data in broken.items():
        members[2 * row] = (members[2 * row][0], data)
    return members


def test_an_unreadable_image_is_named_and_replaced_by_its_neighbor(
    tmp_path: Path,
) -> None:
    bomb = bytearray(png())
    bomb[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    tar_of(tmp_path / "s/x.tar", images_of(63, {7: b"no image", 30: bytes(bomb), 62: png()[:60]}))
    said: list[str] = []

    def loader(**changes: Any) -> Any:
        found = opened(tmp_path / "s", tmp_path, side=32, echo=said.append)
        return a_loader(found, batch_size=9, **changes)

    whole = list(loader().epoch(0))
    ids = [name for batch in whole for name in batch.ids]
    expected = {f"p{row:03d}" for row in range(63)} - {"p007", "p030", "p062"}
    assert set(ids) == expected
    assert len(ids) == 63
    assert all(ids.count(name) == 2 for name in ("p008", "p031", "p000"))
    warnings = [line for line in said if line.startswith("warning")]
    assert len(warnings) == 3
    assert all(f"row {row} (p{row:03d})" in " ".join(warnings) for row in (7, 30, 62))
    for first in range(7):
        rest = list(loader().epoch(0, first))
        assert [batch.ids for batch in rest] == [batch.ids for batch in whole[first:]]
    two = [list(loader(rank=rank, world_size=2).epoch(0)) for rank in (0, 1)]
    assert {name for part in two for batch in part for name in batch.ids} <= expected


def test_too_many_broken_images_end_the_epoch(tmp_path: Path) -> None:
    tar_of(tmp_path / "s/x.tar", images_of(60, dict.fromkeys(range(4), b"x")))
    with pytest.raises(BadData, match="4 images cannot be read, more than 5% of the 60 pairs"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path)))
    tar_of(tmp_path / "s/x.tar", images_of(4, dict.fromkeys(range(4), b"x")))
    with pytest.raises(BadData, match=r"no image of its block can be read.*row 0"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path)))


def parquet(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_columns_are_found_by_name_by_type_or_by_option(tmp_path: Path) -> None:
    pictures = [png(value) for value in range(8)]
    texts = [f"Report {row}." for row in range(8)]
    splits = ["train"] * 6 + ["validation"] * 2
    path = tmp_path / "s/data.parquet"
    parquet(path, picture=pictures, Caption=texts, subset=splits, n=list(range(8)))
    found = opened(tmp_path / "s", tmp_path, side=32)
    assert found.index.pairs == {"train": 6, "valid": 2}
    assert ids_of(a_loader(found, batch_size=6))[0].startswith("data.parquet/")
    parquet(path, a=pictures, b=pictures, words=texts)
    with pytest.raises(Misuse, match="--option text=NAME"):
        opened(tmp_path / "s", tmp_path)
    with pytest.raises(Misuse, match=r"2 columns of images \(a, b\).*--option image=NAME"):
        opened(tmp_path / "s", tmp_path, options={"text": "words"})
    with pytest.raises(Misuse, match="has only a, b, words"):
        opened(tmp_path / "s", tmp_path, options={"text": "word"})
    with pytest.raises(Misuse, match="the keys are image, text"):
        opened(tmp_path / "s", tmp_path, options={"colour": "a"})
    found = opened(tmp_path / "s", tmp_path, options={"text": "words", "image": "b"}, side=32)
    assert len(ids_of(a_loader(found))) == 8
    parquet(path, image=[{"bytes": None, "path": "/etc/passwd"}] * 8, text=texts)
    with pytest.raises(BadData, match="the row has no image"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path)))
    parquet(path, image=pictures, text=texts, split=["train"] * 7 + ["else"])
    with pytest.raises(BadData, match="row 7: the split 'else' is none of"):
        opened(tmp_path / "s", tmp_path)


def test_reports_that_are_empty_after_cleaning_are_not_pairs(tmp_path: Path) -> None:
    texts = ["Clear lungs.", "", None, " XXXX. ", "Left effusion."]
    parquet(tmp_path / "s/x.parquet", image=[png()] * 5, report=texts)
    found = opened(tmp_path / "s", tmp_path)
    assert len(shard_loader.StreamPairs(found, "train", "frontal", "g2dbench")) == 2
    edited = json.loads(found.index.to_json())
    edited["shards"][0]["masks"]["g2dbench"] = edited["shards"][0]["masks"]["train"]
    (tmp_path / "s/shards.json").write_text(json.dumps(edited))
    with pytest.raises(BadData, match=r"row . .*from another version of g2dbench"):
        ids_of(a_loader(opened(tmp_path / "s", tmp_path), batch_size=5))
    both = tar_of(tmp_path / "both/x.tar", some_members(2))
    parquet(both.with_name("y.parquet"), image=[png()], report=["x"])
    with pytest.raises(BadData, match="holds Parquet files and tars"):
        opened(tmp_path / "both", tmp_path)
