"""What `g2dbench new` writes works as it is."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from g2dbench.cards import ModelCard
from g2dbench.cli import app
from g2dbench.conformance.template import KINDS, write_template
from g2dbench.errors import Misuse
from g2dbench.registry import Registry
from g2dbench.result import load_all

pytestmark = pytest.mark.integration

Shell = Callable[..., str]

SMALL = ("--data", "synthetic:120", "--size", "64")


@pytest.fixture
def shell(tmp_path: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


def suggested(output: str) -> list[str]:
    (command,) = (line for line in output.splitlines() if line.startswith("next: g2dbench "))
    return command.removeprefix("next: g2dbench ").split()


def test_a_new_model_passes_its_check_and_is_evaluated(shell: Shell, small_store: Path) -> None:
    command = suggested(shell("new", "model", "my_model.py"))
    assert command == ["check-model", "my_model.py"]
    assert "8 checks passed, 0 failed, 2 not needed" in shell(*command)
    tasks = [word for name in ("cls", "zeroshot", "ground") for word in ("--task", name)]
    shell("eval", *tasks, "--model", "my_model.py", *SMALL, "--store", small_store, "--limit", 20)
    assert [result.status for result in load_all(Path("results"))] == ["done"] * 3


def test_the_weights_of_a_new_model_can_be_loaded(shell: Shell, tmp_path: Path) -> None:
    write_template("model", tmp_path / "mine.py")
    model = Registry([tmp_path / "mine.py"]).find(ModelCard, "mine").load().load(None, 3)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    assert "0 failed" in shell("check-model", "mine:w.pt", "--plugin", "mine.py")


def test_a_new_task_scores_a_model(shell: Shell, small_store: Path) -> None:
    command = suggested(shell("new", "task", "my_task.py"))
    shell(*command, *SMALL, "--store", small_store)
    (result,) = load_all(Path("results"))
    assert result.main is not None
    assert result.main.low < result.main.value < result.main.high


def test_a_new_data_reader_reads_its_layout(shell: Shell, tmp_path: Path) -> None:
    command = suggested(shell("new", "data", "ward.py"))
    rows = ["image,patient,split,report,Pneumonia,Effusion"]
    (tmp_path / "FOLDER" / "images").mkdir(parents=True)
    for number in range(12):
        Image.new("L", (80, 70), 20 * number).save(tmp_path / f"FOLDER/images/{number}.png")
        split = ("train", "valid", "test")[number % 3]
        rows.append(f"{number}.png,p{number},{split},clear lungs,{number % 2},")
    (tmp_path / "FOLDER" / "labels.csv").write_text("\n".join([*rows, "absent.png,p,train,,,"]))
    told = shell(*command, "--store", "st")
    assert "prepared ward" in told
    assert "12" in told
    (tmp_path / "FOLDER" / "labels.csv").unlink()
    done = CliRunner().invoke(app, [*command, "--store", "other"])
    assert done.exit_code == 1
    assert "labels.csv" in done.output


def test_a_new_method_trains_and_its_run_passes_the_check(shell: Shell, small_store: Path) -> None:
    output = shell("new", "method", "my_method.py")
    assert "wrote my_method.toml" in output
    command = suggested(output)
    shell(*command, "--data", "synthetic:120", "--store", small_store, "--epochs", 1)
    told = shell("check-model", "runs/my_method", "--plugin", "my_method.py")
    assert "0 failed" in told


def test_a_new_suite_is_planned(shell: Shell, tmp_path: Path) -> None:
    command = suggested(shell("new", "suite", "my_suite.toml"))
    assert "Linear classification" in shell(*command)
    planned = shell(*command, "--plan", "--model", "random-init", "--data", "synthetic:120",
                    "--store", tmp_path / "store")  # fmt: skip
    assert "zeroshot:g2d" in planned


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mine", "a_rather_long_name_2"])
def test_a_template_keeps_the_style_of_the_project(
    kind: str, name: str, tmp_path: Path, project: Path
) -> None:
    """At the length of a usual name; words to replace are gone."""
    written = write_template(kind, tmp_path / f"{name}{KINDS[kind][0]}")
    for file in written:
        text = file.read_text()
        for word in ("NAME\n", "CLASS", "RECIPE", "FILE\n"):
            assert word not in text.replace("FILE.npz", "")
    python = [str(file) for file in written if file.suffix == ".py"]
    if python and name == "mine":
        ignored = ("--ignore", "I001,E501")  # the order of imports and the path depend on the place
        command = [sys.executable, "-m", "ruff", "check", "--config", project / "pyproject.toml"]
        done = subprocess.run([*command, *ignored, *python], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("model", "mine.txt", r"is a \.py file; give .*mine\.py"),
        ("suite", "mine.py", r"is a \.toml file"),
        ("model", "My Model.py", "small letters"),
        ("task", "class.py", "small letters"),
    ],
)
def test_a_name_that_no_plugin_can_have_is_refused(
    kind: str, name: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(Misuse, match=sentence):
        write_template(kind, tmp_path / name)


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("mine")
    with pytest.raises(Misuse, match=r"m\.toml exists"):
        write_template("method", tmp_path / "m.py")
    assert [file.name for file in tmp_path.iterdir()] == ["m.toml"]
