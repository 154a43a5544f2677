"""Folders that all workers of a test session share; the first to ask makes them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from g2dbench.system.locks import locked


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name; `make` fills it, in the first worker that asks for it."""
    folder = _shared(factory) / name
    with locked(folder):
        if not folder.exists():
            partial = folder.with_name(f"{name}.partial")
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


def written_once(
    factory: pytest.TempPathFactory, name: str, write: Callable[[Path], object]
) -> str | None:
    """What `write` returns for the folder of this name: a path in it, a text that names one, None.

    The files are written in their final place, for some state where they lie.
    """
    folder = _shared(factory) / name
    answer = folder.with_name(f"{name}.answer")
    with locked(folder):
        if not answer.exists():
            folder.mkdir(exist_ok=True)
            given = write(folder)
            answer.write_text("" if given is None else str(given), encoding="utf-8")
    return answer.read_text(encoding="utf-8") or None


def linked(folder: Path, to: Path) -> Path:
    """Links in `to` to all files below a folder, so that a test can remove or replace some."""
    for file in folder.rglob("*"):
        if file.is_file():
            link = to / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return to


def _shared(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
