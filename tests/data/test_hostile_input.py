"""Broken and malicious input ends in a quarantine entry or a clear error; good images are stored.

Each case breaks one thing in an otherwise intact folder: an image, a row, a table, an archive or a
document. `support/hostile/` defines them by theme. Every case is prepared in this process, with a
limit of memory and time.
"""

import os
import warnings
from pathlib import Path

import pytest
from support.hostile import archives, documents, images, rows, tables
from support.hostile.kit import BAD, BROKEN, GOOD, Case
from support.hostile.roots import (
    IDS,
    MAKERS,
    READERS,
    limited,
    listing,
    make_root,
    quarantine,
    write_rsna,
)

from g2dbench.data.prepare import prepare
from g2dbench.data.store import build
from g2dbench.data.store.manifest import QUARANTINE_FILE
from g2dbench.data.store.store import Store
from g2dbench.data.tables import csv as csv_tables
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

REGISTRY = Registry()
THEMES = (archives, documents, images, rows, tables)


def prepare_case(kind: str, root: Path, store: Path) -> Store:
    reader = READERS.get(kind, kind)
    own = "mine" if reader == "images" else None
    return prepare(reader, root, store, progress=quiet, registry=REGISTRY, size=32, own_name=own)


def id_of(kind: str, name: str) -> str:
    return IDS.get(kind, {}).get(name, name)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_intact_folders_are_prepared(kind: str, tmp_path: Path) -> None:
    root = make_root(kind, tmp_path / kind)
    if kind == "rsna":
        write_rsna(root, "")
    store = prepare_case(kind, root, tmp_path / "s")
    assert id_of(kind, GOOD) in {sample.id for sample in store}
    assert store.manifest.summary.rejected == store.manifest.summary.missing == 0


def test_there_are_at_least_400_cases() -> None:
    assert len(THEMES) == 5
    assert len(BROKEN) >= 400


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_reported_and_good_images_are_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MAX_REJECTED", 0.9)
    monkeypatch.setattr(csv_tables, "MAX_TABLE", 50_000_000)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no data need to survive a power failure
    case = BROKEN[name]
    root, store = make_root(case.kind, tmp_path / "root"), tmp_path / "store"
    case.place(root)
    before = listing(tmp_path)
    found = error = None
    with limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = prepare_case(case.kind, root, store)
        except (BadData, Misuse) as refused:
            error = str(refused)
    after = {path: content for path, content in listing(tmp_path).items() if Path(path) != store}
    assert {
        path: content for path, content in after.items() if store not in Path(path).parents
    } == before
    if found is None:
        assert not case.harmless or case.kind == "mimic_cxr"
        assert error
        assert str(root) in error
        return
    check(found, case)


def check(store: Store, case: Case) -> None:
    """The good image is stored correctly; every other listed image has a reason."""
    good, harmless = id_of(case.kind, GOOD), {id_of(case.kind, name) for name in case.harmless}
    ids = {sample.id for sample in store}
    assert good in ids
    assert ids <= {good, *harmless}
    assert all(sample.image.shape == (32, 32) for sample in store)
    rejected = quarantine(store.folder / QUARANTINE_FILE)
    assert rejected or id_of(case.kind, BAD) in ids
    assert all(row["id"] and len(row["reason"]) > 10 for row in rejected)
    assert not any("memory" in row["reason"] for row in rejected)
