"""Damaged stores, and the verification and description of intact ones."""

import os
from pathlib import Path

import pytest
from support.data.stores import edit, make, make_root, quiet

from g2dbench.data.store.manifest import MANIFEST_FILE, ROWS_FILE
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import describe, store_facts, verify
from g2dbench.errors import BadData

pytestmark = pytest.mark.integration


BREAKS = {
    "no manifest": lambda folder: (folder / MANIFEST_FILE).unlink(),
    "half a manifest": lambda folder: (folder / MANIFEST_FILE).write_text('{"schema_version": 1'),
    "a list": lambda folder: (folder / MANIFEST_FILE).write_text("[]"),
    "another schema": lambda folder: edit(folder, schema_version=99),
    "a lost field": lambda folder: edit(folder, fingerprint=None),
    "cut rows": lambda folder: os.truncate(folder / ROWS_FILE, 1000),
    "no rows": lambda folder: (folder / ROWS_FILE).unlink(),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_damaged_store_is_refused_with_a_remedy_and_replaced(tmp_path: Path, name: str) -> None:
    made = make(make_root(tmp_path / "root", count=6), tmp_path / "s")
    BREAKS[name](made.folder)
    with pytest.raises(BadData, match="prepare it again"):
        Store(made.folder)
    assert make(tmp_path / "root", tmp_path / "s").fingerprint == made.fingerprint
    assert len(Store(made.folder)) == 6


def test_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    made = make(make_root(tmp_path / "root", count=6), tmp_path / "s")
    assert verify(made, quiet).images == 6
    data = bytearray((made.folder / ROWS_FILE).read_bytes())
    at = data.index(made[3].image.tobytes())
    data[at] ^= 1
    (made.folder / ROWS_FILE).write_bytes(data)
    with pytest.raises(BadData, match=r"'p003'.*not what was written"):
        verify(made, quiet)


def test_verify_finds_another_fingerprint_and_counts_repeated_pixels(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    images = root / "stage_2_train_images"
    for index in range(1, 40):
        if index % 3:
            (images / f"p{index:03d}.png").write_bytes((images / "p000.png").read_bytes())
    made = make(root, tmp_path / "s")
    found = verify(made, quiet)
    assert found.duplicates == 26
    assert 0 < len(found.leaks) < 26
    assert "across splits" in str(found)
    edit(made.folder, fingerprint="0" * 64)
    with pytest.raises(BadData, match="the fingerprint of"):
        verify(made, quiet)


def test_describe_counts_splits_labels_and_pairs(store: Store) -> None:
    known = store_facts(store)
    assert known["splits"]["train"]["images"] == 24
    assert sum(part["positive"]["Pneumonia"] for part in known["splits"].values()) == 14
    assert known["shapes"] == {"32x32": 40}
    assert known["pairs"]["no report"] == 40
    assert "valid: images 8, patients 8" in describe(store)
