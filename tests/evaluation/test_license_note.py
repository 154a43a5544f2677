"""A model whose license forbids commercial use says so when it is loaded."""

from pathlib import Path

import pytest
from support import plugins
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.conformance.template import write_template
from g2dbench.evaluation.model_reference import LicenseNote, resolve
from g2dbench.registry import Registry


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (written,) = write_template("model", tmp_path / "mine.py")
    plugins.edit(written, "licence=", "noncommercial=True,\n    licence=")
    return written


def test_loading_warns(file: Path) -> None:
    registry = Registry()
    with pytest.warns(LicenseNote, match="mine: no commercial use"):
        resolve(str(file), registry).load(registry, 0)


def test_the_command_line_prints_a_note_without_the_place_in_the_code(file: Path) -> None:
    words = ["profile", "--model", str(file), "--batch-size", "1", "--steps", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (note,) = (line for line in done.stderr.splitlines() if "commercial" in line)
    assert note.startswith("note: mine: no commercial use (license: TODO")


def test_a_free_model_says_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (written,) = write_template("model", tmp_path / "mine.py")
    registry = Registry()
    resolve(str(written), registry).load(registry, 0)
    assert not [warning for warning in recwarn if warning.category is LicenseNote]
