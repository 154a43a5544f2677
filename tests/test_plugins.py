"""A third party's model and task, one file each: by --plugin, by entry point."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.result import load_all

pytestmark = pytest.mark.integration

SMALL = ("--data", "synthetic:120", "--size", "64")
LAB = Path(__file__).parent / "third_party"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny package, built from a copy and installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "tinylab"
    shutil.copytree(LAB, source)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *install, "--target", folder, source], check=True)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, and a terminal wide enough for whole sentences."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def in_process(*words: object) -> tuple[int, str]:
    """Exit code and output of a command, where plug-ins come by an option."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def g2dbench(*words: object, path: Path, cwd: Path) -> subprocess.CompletedProcess:
    """A command in a process of its own, which finds packages in `path`."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "g2dbench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def test_a_model_and_a_task_file_run_by_plugin(here: Path, small_store: Path) -> None:
    plugins = [
        ("--plugin", LAB / "src" / "tinylab" / f"{n}.py") for n in ("brightness", "exposure")
    ]
    code, text = in_process(
        "eval", "--task", "exposure", "--model", "brightness", *SMALL, "--store", small_store,
        "--out", "results", *(word for pair in plugins for word in pair),
    )  # fmt: skip
    assert code == 0, text
    (result,) = load_all(here / "results")
    assert result.main is not None
    assert result.main.value > 0.9


def test_an_installed_package_is_found_by_its_entry_points(
    tmp_path: Path, small_store: Path, installed: Path
) -> None:
    listed = g2dbench("list", "models", path=installed, cwd=tmp_path)
    assert "brightness" in listed.stdout
    done = g2dbench(
        "eval", "--task", "exposure", "--task", "cls", "--model", "brightness", *SMALL,
        "--store", small_store, "--out", tmp_path / "results", path=installed, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {result.cell.task for result in load_all(tmp_path / "results")} == {"exposure", "cls"}


@pytest.mark.usefixtures("here")
def test_without_the_package_its_names_are_unknown() -> None:
    code, text = in_process("eval", "--task", "exposure", "--model", "random-init")
    assert code == 2
    assert "there is no task 'exposure'" in text


def test_a_model_cannot_do_a_task_it_lacks_the_ability_for(here: Path, small_store: Path) -> None:
    code, text = in_process(
        "eval", "--task", "ground", *SMALL, "--model", LAB / "src" / "tinylab" / "brightness.py",
        "--store", small_store, "--out", "results",
    )  # fmt: skip
    assert code == 1
    assert "unsupported" in text
    (result,) = load_all(here / "results")
    assert "locates" in (result.reason or "")


METHOD = '''"""G2D under another name."""

from g2dbench import MethodCard
from g2dbench.methods import g2d

CARD = MethodCard(name="mine", summary="G2D, copied", paper="none", capabilities=("embeds",))
build = g2d.build
'''


def test_a_run_of_a_methods_file_is_evaluated_with_that_file(
    here: Path, small_store: Path, trained: Path
) -> None:
    run = Path(shutil.copytree(trained, here / "run"))
    info = json.loads((run / "run.json").read_text())
    info["recipe"]["method"] = "mine"
    (run / "run.json").write_text(json.dumps(info))
    plugin = here / "mine.py"
    plugin.write_text(METHOD)
    words = ("eval", "--task", "zeroshot", "--model", run, *SMALL, "--store", small_store)
    code, text = in_process(*words, "--plugin", plugin)
    assert code == 0, text
    code, text = in_process(*words, "--rerun")
    assert code == 1
    assert "there is no method 'mine'" in text


def test_broken_installed_plugins_are_left_out_and_no_package_code_runs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "bad").mkdir(parents=True)
    (site / "bad" / "__init__.py").write_text("open('package-code-ran', 'w')\n1 / 0\n")
    (site / "bad" / "model.py").write_text((LAB / "src/tinylab/brightness.py").read_text())
    (site / "bad" / "broken.py").write_text("CARD = ModelCard(name=1 + 1)\n")
    info = site / "bad-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[g2dbench.plugins]\ngood = bad.model\ngone = nowhere.at_all\nbroken = bad.broken\n"
    )
    listed = g2dbench("list", "models", path=site, cwd=tmp_path)
    assert listed.returncode == 1
    assert "brightness" in listed.stdout
    assert "'gone' names no module" in listed.stderr
    assert "'broken'" in listed.stderr
    assert not (tmp_path / "package-code-ran").exists()
