"""`eval --label`: the row of a model is what the user says, and two files are two rows."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.conformance.template import write_template
from g2dbench.errors import Misuse
from g2dbench.evaluation.sweep.grid import label_models
from g2dbench.result import load_all


def test_labels_belong_to_models_in_order() -> None:
    assert label_models(["a", "b"], []) == {}
    assert label_models(["a", "b"], ["one", "two"]) == {"a": "one", "b": "two"}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["one"], r"--label is given 1 times, but there are 2 models \(a, b\)"),
        (["one", " "], "empty"),
        (["one", "tw\no"], "cannot be printed"),
        (["one", "x" * 101], "101 characters"),
    ],
)
def test_labels_that_fit_no_models_are_refused(labels: list[str], sentence: str) -> None:
    with pytest.raises(Misuse, match=sentence):
        label_models(["a", "b"], labels)


@pytest.mark.integration
def test_two_models_are_two_rows_under_the_users_labels(
    tmp_path: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_template("model", Path("mine.py"))
    models = ["--model", "mine.py", "--label", "mine, first", "--model", "random-init", "--label"]
    command = ["eval", "--task", "zeroshot", *models, "nothing learned", "--data", "synthetic:120"]
    done = CliRunner().invoke(app, [*command, "--size", "64", "--store", str(small_store)])
    assert done.exit_code == 0, done.output
    assert "mine, first zeroshot:g2d" in done.output
    rows = {result.cell.model for result in load_all(Path("results"))}
    assert rows == {"mine, first", "nothing learned"}
    table = CliRunner().invoke(app, ["leaderboard", "results"]).output
    assert "mine, first" in table
    assert "nothing learned" in table
