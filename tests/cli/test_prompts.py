"""`eval --prompts` and `--prompt-sensitivity`: a cell of its own, told what it asked."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cards import TaskCard
from g2dbench.cli import app
from g2dbench.evaluation.rescore import differences, rescore
from g2dbench.registry import Registry
from g2dbench.result import RESULT_FILE, Result, load_all

pytestmark = pytest.mark.integration

MINE = 'positive = ["{} can be seen"]\nnegative = ["{} cannot be seen"]\n'


@pytest.fixture
def evaluate(small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    base = (
        "eval", "--task", "zeroshot", "--model", "random-init", "--data", "synthetic:120",
        "--size", "64", "--store", str(small_store), "--feature-cache-gb", "0",
    )  # fmt: skip

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*base, *words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, " ".join(done.output.split())

    return run


def results(folder: Path) -> dict[str, Result]:
    return {result.cell.protocol: result for result in load_all(folder / "results")}


def test_a_users_prompts_make_a_cell_of_their_own(evaluate, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    assert evaluate()[0] == 0
    code, text = evaluate("--prompts", "mine.toml")
    assert code == 0
    assert "zeroshot:g2d@mine-" in text
    assert "(on disk)" in evaluate("--prompts", "mine.toml")[1]
    (tmp_path / "mine.toml").write_text(MINE.replace("can be", "is"))
    assert "(on disk)" not in evaluate("--prompts", "mine.toml")[1]
    found = results(tmp_path)
    assert len(found) == 3
    mine = next(result for name, result in found.items() if "@" in name)
    assert "can" in json.dumps(mine.provenance.config["protocol"])
    assert "mine-" in json.dumps(mine.details["prompts"])


def test_a_cell_with_the_users_prompts_is_scored_again_without_the_file(
    evaluate, tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "mine.toml").write_text(MINE)
    evaluate("--prompts", "mine.toml")
    (tmp_path / "mine.toml").unlink()
    (path,) = (tmp_path / "results").rglob(RESULT_FILE)
    stored, again = rescore(path.parent, Registry().find(TaskCard, "zeroshot").load())
    assert differences(stored.scores, again.scores) == []


def test_a_wrong_file_or_task_ends_before_a_model_is_loaded(evaluate, tmp_path: Path) -> None:
    code, text = evaluate("--prompts", "absent.toml")
    assert (code, "cannot read the prompts absent.toml" in text) == (2, True)
    (tmp_path / "mine.toml").write_text(MINE)
    code, text = evaluate("--task", "cls", "--prompts", "mine.toml")
    assert (code, "cls does not" in text) == (2, True)
    code, text = evaluate("--task", "cls", "--prompt-sensitivity")
    assert (code, "cls asks with no text prompts" in text) == (2, True)
    code, text = evaluate("--protocol", "g2d@mine")
    assert (code, "g2d@mine" in text) == (2, True)
    assert not list(tmp_path.rglob(RESULT_FILE))


def test_sensitivity_is_added_to_a_finished_cell(evaluate, tmp_path: Path) -> None:
    evaluate()
    before = results(tmp_path)["g2d"]
    assert "(on disk)" not in evaluate("--prompt-sensitivity")[1]
    after = results(tmp_path)["g2d"]
    assert repr(after.scores) == repr(before.scores)
    spread = after.details["prompt_sensitivity"]
    assert isinstance(spread, dict)
    assert len(spread["paraphrases"]) == 8  # type: ignore[arg-type]
    assert "(on disk)" in evaluate("--prompt-sensitivity")[1]
    assert "(on disk)" in evaluate()[1]
