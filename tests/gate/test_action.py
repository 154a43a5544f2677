"""The reusable action, the project's workflow and docs/gate.md: valid, and their commands work."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from support.pages import blocks, commands, run, run_page

from g2dbench.cli import app
from g2dbench.conformance.template import write_template
from g2dbench.result import load, save

GROUP: Any = typer.main.get_command(app)

EVALUATE = "--model random-init --task zeroshot --data 'synthetic:120' --size 64"


def read(file: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def action(project: Path) -> dict[Any, Any]:
    return read(project / "action.yml")


@pytest.fixture(scope="module")
def workflow(project: Path) -> dict[Any, Any]:
    return read(project / ".github" / "workflows" / "ci.yml")


def steps(document: dict[Any, Any]) -> list[dict[str, Any]]:
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    return [step for job in jobs for step in job["steps"]]


def example(project: Path) -> str:
    """The workflow of docs/gate.md."""
    (block,) = (b for b in blocks(project / "docs" / "gate.md") if b.language == "yaml")
    return block.text


def check_command(text: str) -> None:
    """The command and its options exist."""
    words = shlex.split(re.split(r"<<<|>|\|", text)[0].replace("\\\n", " "))
    name, *rest = words[words.index("g2dbench") + 1 :]
    known = {option for parameter in GROUP.commands[name].params for option in parameter.opts}
    unknown = [word for word in rest if word.startswith("--") and word not in known]
    assert not unknown, f"g2dbench {name} has no {unknown}"


def test_every_g2dbench_command_of_the_yaml_files_exists(
    action: dict[Any, Any], workflow: dict[Any, Any], project: Path
) -> None:
    page = [
        yaml.safe_load(b.text) for b in blocks(project / "docs/gate.md") if b.language == "yaml"
    ]
    found = []
    for document in (action, workflow, *page):
        for step in steps(document):
            found += [step["run"]] if "g2dbench " in step.get("run", "") else []
            given = step.get("with", {})
            found += [f"g2dbench eval {given['evaluate']}"] if "evaluate" in given else []
            found += [f"g2dbench regress {given['compare']}"] if "compare" in given else []
    assert len(found) == 5
    for text in found:
        check_command(text)
    with pytest.raises(AssertionError, match="--modle"):
        check_command("g2dbench eval --modle x")


def test_every_make_target_of_the_workflow_exists(workflow: dict[Any, Any], project: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (project / "Makefile").read_text(), re.MULTILINE))
    called = [step["run"].split()[1:] for step in steps(workflow) if "make " in step.get("run", "")]
    assert {name for names in called for name in names} <= targets
    assert {"test"} in [set(names) for names in called]
    assert {"gate"} in [set(names) for names in called]


def test_every_input_is_declared_and_none_is_pasted_into_a_script(
    action: dict[Any, Any], workflow: dict[Any, Any], project: Path
) -> None:
    text = (project / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == set(action["inputs"])
    for step in (*steps(action), *steps(workflow)):
        assert "${{" not in step.get("run", ""), step
        assert "run" in step or "@v" in step["uses"] or step["uses"] == "./", step
    assert all(step["shell"] == "bash" for step in steps(action) if "run" in step)
    page = (project / "docs" / "gate.md").read_text()
    assert all(f"`{name}`" in page for name in action["inputs"])
    assert len(example(project).splitlines()) == 10
    given = steps(yaml.safe_load(example(project)))[-1]["with"]
    assert set(given) <= set(action["inputs"])
    required = {name for name, each in action["inputs"].items() if each.get("required")}
    assert required <= set(given)


class Runner:
    """Runs steps of the action as GitHub does, with `g2dbench` of this interpreter."""

    def __init__(self, action: dict[Any, Any], folder: Path, **inputs: str) -> None:
        self.steps = {step["name"]: step for step in action["runs"]["steps"]}
        self.folder = folder
        self.inputs = {name: each.get("default", "") for name, each in action["inputs"].items()}
        self.inputs |= inputs
        program = folder / "bin" / "g2dbench"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m g2dbench "$@"\n')
        program.chmod(0o755)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        step = self.steps[name]
        given = {key: self._filled(value) for key, value in step["env"].items()}
        environment = os.environ | given | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
        }  # fmt: skip
        shell = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        return subprocess.run(
            shell, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def _filled(self, value: str) -> str:
        return re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: self.inputs[m[1]], value)


@pytest.mark.integration
def test_the_steps_open_the_gate_and_close_it(
    action: dict[Any, Any], tmp_path: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G2DBENCH_STORE", str(own_store))
    gate = Runner(action, tmp_path, evaluate=EVALUATE, compare="--tolerance 'auc=0.02'")
    done = gate.run("Evaluate")
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "results", tmp_path / "baseline")
    done = gate.run("Compare with the baseline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<testsuite" in (tmp_path / "results" / "gate.xml").read_text()
    assert gate.run("Write the summary").returncode == 0
    assert (tmp_path / "summary.md").read_text() == (tmp_path / "results/gate.md").read_text()
    (better,) = (tmp_path / "baseline").rglob("result.json")
    found = load(better)
    auc = found.scores["auc"]
    raised = auc.model_copy(update={"value": auc.value + 0.05})
    save(found.model_copy(update={"scores": {**found.scores, "auc": raised}}), better.parent)
    (better.parent / "predictions.parquet").unlink()  # the tolerance decides alone
    done = gate.run("Compare with the baseline")
    assert done.returncode != 0
    assert "::error" in done.stdout


def test_an_input_is_words_and_no_script(action: dict[Any, Any], tmp_path: Path) -> None:
    hostile = Runner(action, tmp_path, evaluate=f"{EVALUATE}; touch pasted $(touch pasted)")
    (tmp_path / "bin" / "g2dbench").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    done = hostile.run("Evaluate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-5:] == ["64;", "touch", "pasted", "$(touch", "pasted)"]
    assert not (tmp_path / "pasted").exists()


@pytest.mark.integration
def test_the_commands_of_the_page_run_in_order(
    project: Path, tmp_path: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("G2DBENCH_STORE", str(own_store))
    write_template("model", tmp_path / "my_model.py")
    run_page(project / "docs" / "gate.md")
    assert "<testsuite" in (tmp_path / "gate.xml").read_text()
    assert len(commands("g2dbench list models # c\nls\n")) == 1
    assert "random-init" in run("g2dbench list models")
