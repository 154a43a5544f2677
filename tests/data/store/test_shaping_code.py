"""Which source files a half-made store depends on."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from g2dbench.cards import DatasetCard
from g2dbench.data.store import shaping_code
from g2dbench.registry import Registry

REGISTRY = Registry()
EVERY_READER = [card.name for card in REGISTRY.cards(DatasetCard)]


def files_of(name: str) -> set[str]:
    return set(shaping_code.files(REGISTRY.find(DatasetCard, name).load()))


@pytest.mark.parametrize(
    ("reader", "helper"),
    [
        ("chexpert", "g2dbench.data.readers._chexpert_labels"),
        ("chexpert", "g2dbench.data.readers.chexpert.chexlocalize"),
        ("vinbigdata", "g2dbench.data.readers.vindr.consensus"),
        ("mimic_cxr", "g2dbench.data.readers.mimic_cxr.reports"),
        ("hf", "g2dbench.data.custom._hf_features"),
        ("synthetic", "g2dbench.data.synthetic._anatomy"),
        ("synthetic", "g2dbench.data.synthetic._film"),
    ],
)
def test_the_helpers_of_a_reader_count(reader: str, helper: str) -> None:
    assert helper in files_of(reader)


@pytest.mark.parametrize("name", EVERY_READER)
def test_every_reader_counts_its_own_file_and_the_code_that_decodes(name: str) -> None:
    module = REGISTRY.find(DatasetCard, name).load()
    expected = {
        module.__name__, "g2dbench.data.images.image_file", "g2dbench.data.images.dicom",
        "g2dbench.data.images.border", "g2dbench.data.annotations.masks",
        "g2dbench.data.annotations.geometry", "g2dbench.data.store.row",
    }  # fmt: skip
    assert expected <= files_of(name)


def test_other_readers_and_what_only_reads_stores_do_not_count() -> None:
    found = files_of("rsna")
    strangers = {"siim", "chexpert", "vindr", "_chexpert_labels"}
    assert not {f"g2dbench.data.readers.{name}" for name in strangers} & found
    assert not {f"g2dbench.data.store.{name}" for name in ("store", "verify", "request")} & found
    assert not [name for name in found if name.startswith(("g2dbench.cli", "g2dbench.training"))]


PLUGIN = {
    "__init__.py": "",
    "reader.py": "import numpy\nfrom plugged.deep import helper\nfrom . import beside\n",
    "beside.py": "def f():\n    from g2dbench.data.annotations import rle\n",
    "deep/__init__.py": "",
    "deep/helper.py": "from ..third import VALUE\n",
    "third.py": "VALUE = 1\n",
    "unused.py": "",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, text in PLUGIN.items():
        path = tmp_path / "plugged" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    module = importlib.import_module("plugged.reader")
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "plugged"]:
        del sys.modules[name]


def test_imports_are_followed_within_the_package_of_a_plug_in(plugin: ModuleType) -> None:
    found = set(shaping_code.files(plugin))
    mine = {name for name in found if name.startswith("plugged")}
    assert mine == {
        "plugged.reader", "plugged.beside", "plugged.deep.helper", "plugged.third",
    }  # fmt: skip
    assert "g2dbench.data.annotations.rle" in found
    assert "numpy" not in found


def test_the_digest_changes_with_a_helper_and_not_with_a_stranger(
    plugin: ModuleType, tmp_path: Path
) -> None:
    before = shaping_code.digest(plugin)
    (tmp_path / "plugged/unused.py").write_text("VALUE = 3\n")
    assert shaping_code.digest(plugin) == before
    (tmp_path / "plugged/third.py").write_text("VALUE = 2\n")
    assert shaping_code.digest(plugin) != before
