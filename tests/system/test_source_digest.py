"""The digest of a module's source code."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from g2dbench.errors import BadData
from g2dbench.system.source_digest import source_digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`labcode`: `main` imports `near` (relative), `far` (absolute); nothing imports `unused`."""
    folder = tmp_path / "labcode"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "main.py").write_text("from . import near\nfrom labcode.far import X\nimport json\n")
    (folder / "near.py").write_text("from .deep import Y\n")
    for name in ("far", "unused"):
        (folder / f"{name}.py").write_text("X = 1\n")
    (folder / "deep.py").write_text('"""Text."""\nY = 1  # one\n')
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    importlib.import_module("labcode.main")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "labcode"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["main", "near", "far", "deep"])
def test_every_imported_module_of_the_package_counts(package: Path, name: str) -> None:
    before = source_digest(["labcode.main"])
    with (package / f"{name}.py").open("a") as file:
        file.write("Z = 2\n")
    assert source_digest(["labcode.main"]) != before


def test_modules_not_imported_comments_and_docstrings_do_not_count(package: Path) -> None:
    before = source_digest(["labcode.main"])
    (package / "unused.py").write_text("X = 3\n")
    (package / "deep.py").write_text('"""Another text,\n\nlonger."""\n\n\nY = (1)\n')
    assert source_digest(["labcode.main"]) == before


def test_the_order_of_modules_does_not_matter(package: Path) -> None:
    names = ["labcode.main", "labcode.unused"]
    assert source_digest(names) == source_digest(names[::-1])
    assert source_digest(names) != source_digest(names[:1])


def test_modules_without_a_source_count_by_name() -> None:
    assert source_digest(["sys"]) == source_digest(["sys"]) != source_digest(["builtins"])


def test_a_source_file_that_is_not_python_is_named(package: Path) -> None:
    (package / "far.py").write_text("def (:\n")
    with pytest.raises(BadData, match=r"far\.py cannot be read"):
        source_digest(["labcode.main"])
