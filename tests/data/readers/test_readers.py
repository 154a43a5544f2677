"""Errors that the readers share: missing files, damaged tables, files outside the root."""

from pathlib import Path

import numpy as np
import pytest
from support.data.official_layouts import open_i_root, rsna_root, save_image

from g2dbench.cards import DatasetCard
from g2dbench.data.readers import (
    open_i,
    rsna,
    siim,
)
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.csv import read_table
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record


def test_every_reader_of_the_package_has_card_and_layout() -> None:
    for card in Registry().cards(DatasetCard):
        module = Registry().find(DatasetCard, card.name).load()
        assert card == module.CARD
        assert card.embedded or (card.layout and callable(module.read))


@pytest.mark.parametrize(
    ("reader", "table"),
    [(rsna, rsna.LABELS), (siim, siim.TABLE), (open_i, open_i.PROJECTIONS)],
)
def test_missing_folders_tables_and_columns_are_named(tmp_path: Path, reader, table: str) -> None:
    with pytest.raises(BadData, match="there is no folder"):
        list(reader.read(tmp_path / "nowhere"))
    (tmp_path / "else.txt").touch()
    with pytest.raises(BadData, match=r"no table .*else\.txt"):
        list(reader.read(tmp_path))
    if reader is open_i:
        open_i_root(tmp_path, "", "")
    (tmp_path / table).write_text("one,two\n1,2\n")
    with pytest.raises(BadData, match=f"{table} lacks the columns .*found: one, two"):
        list(reader.read(tmp_path))


@pytest.mark.parametrize("reader", [rsna, open_i])
def test_a_missing_image_folder_is_named(tmp_path: Path, reader) -> None:
    rsna_root(tmp_path, "a,,,,,0\n", images="")
    open_i_root(tmp_path, "", "")
    with pytest.raises(BadData, match="holds no image folder"):
        list(reader.read(tmp_path))


def test_tables_are_read_compressed_with_bom_and_stripped(tmp_path: Path) -> None:
    import gzip

    text = "\ufeff a , b\n 1 , x \n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    table = read_table(tmp_path / "t.csv", ("a", "b"))
    assert table.to_dict("records") == [{"a": "1", "b": "x", "line": 2}]


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2,3,4\n1,2\n", b"\xff\xfe\x00", b'a,b\n"1,2\n'])
def test_broken_tables_are_bad_data(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(BadData, match=r"t\.csv"):
        read_table(tmp_path / "t.csv", ("a", "b"))


@pytest.mark.parametrize("name", ["../outside.png", "images/../../outside.png", "link.png"])
def test_files_outside_the_root_are_rejected(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    save_image(tmp_path / "outside.png")
    save_image(root / "images/inside.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    frame = DecodeSettings(root, tuple(trusted_roots(root)), 64)
    row = decode(Record(id="a", path=root / name, patient="a"), frame)
    assert isinstance(row, Rejected)
    assert "outside" in row.reason


def test_a_folder_that_its_owner_linked_into_the_root_is_trusted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    save_image(tmp_path / "disk/a.png")
    (root / "images").symlink_to(tmp_path / "disk")
    frame = DecodeSettings(root, tuple(trusted_roots(root)), 64)
    row = decode(Record(id="a", path=root / "images/a.png", patient="a"), frame)
    assert row["source"] == "images/a.png"


BAD_RECORDS = [
    {"boxes": (Box("x", float("nan"), 0, 1, 1),)},
    {"boxes": (Box("x", 5, 5, 4, 9),)},
    {"boxes": (Box("x", 5, 5, 5, 9),)},
    {"boxes": (Box("x", 0, 0, 40, 10),)},
    {"boxes": (Box("x", -3, 0, 4, 10),)},
    {"labels": {"x": 2}},
    {"split": "dev"},
    {"age": float("inf")},
    {"patient": ""},
    {"masks": {"x": np.zeros((3, 3), bool)}},
]


@pytest.mark.parametrize("fields", BAD_RECORDS)
def test_impossible_records_are_rejected_with_a_reason(tmp_path: Path, fields: dict) -> None:
    save_image(tmp_path / "a.png")
    record = Record(**{"id": "a", "path": tmp_path / "a.png", "patient": "p", **fields})
    row = decode(record, DecodeSettings(tmp_path, (tmp_path.resolve(),), 64))
    assert isinstance(row, Rejected)
    assert row.reason
