"""How an evaluation's end is told: counts, exit codes, which run it took."""

import json
from pathlib import Path

import pytest
import typer

from g2dbench.cli import eval as evaluating
from g2dbench.cli.evaluate import cell_report
from g2dbench.cli.evaluate.demo import METHODS
from g2dbench.errors import Misuse
from g2dbench.evaluation.outcome import Outcome
from g2dbench.result import Cell, Provenance, Result
from g2dbench.runs import folder as runs


def outcome(status: str) -> Outcome:
    cell = Cell(model="m", task="cls", protocol="p", data="d", fraction=1.0)
    origin = Provenance(version="0", weights="w", data="d", subset="s")
    result = Result.model_validate(
        {
            "cell": cell, "status": status, "metric": "auc", "reason": "for a reason",
            "provenance": origin,
        }
    )  # fmt: skip
    return Outcome(result, Path(), reused=False)


@pytest.mark.parametrize(
    ("statuses", "code", "said"),
    [
        (["done", "done"], 0, "2 cells done (0 already on disk), 0 unsupported, 0 failed"),
        (["done", "unsupported"], 0, "1 cell done (0 already on disk), 1 unsupported, 0 failed"),
        (["unsupported"], 1, "0 cells done (0 already on disk), 1 unsupported, 0 failed"),
        (["done", "failed"], 1, "1 cell done (0 already on disk), 0 unsupported, 1 failed"),
        ([], 1, "0 cells done"),
    ],
)
def test_the_exit_code_and_the_counts_of_a_grid(
    statuses: list[str], code: int, said: str, capsys: pytest.CaptureFixture
) -> None:
    found = 0
    try:
        cell_report.report(map(outcome, statuses), Path("results"))
    except typer.Exit as end:
        found = end.exit_code
    assert (found, said in " ".join(capsys.readouterr().out.split())) == (code, True)


def fake_run(name: str, finished: str | None, info: dict) -> None:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    status = "complete" if finished else "running"
    told = {**info, "finished": finished, "status": status}
    (folder / runs.RUN_FILE).write_text(json.dumps(told))


@pytest.fixture
def info(project: Path) -> dict:
    """A `run.json` of any training."""
    from g2dbench.recipes import recipe

    made = runs.RunInfo(
        label="x", recipe=recipe.load("g2d-tiny"), architecture={}, seed=0, data="d",
        fingerprint="f", pairs=1, precision="fp32", device="cpu",
    )  # fmt: skip
    return json.loads(made.model_dump_json())


def test_the_newest_run_is_named_with_how_many_others_there_are(
    info: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misuse, match="demo/runs"):
        evaluating.newest_run_name()
    fake_run("b", "2026-01-02T00:00:00", info)
    assert evaluating.newest_run_name() == "runs/b"
    assert "--model" not in capsys.readouterr().out
    fake_run("a", "2026-01-03T00:00:00", info)
    fake_run("c", None, info)
    assert evaluating.newest_run_name() == "runs/a"
    assert "runs/a (of 2 in runs/; --model chooses another)" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_demos_newest_run_is_that_of_g2d() -> None:
    assert METHODS[-1] == "g2d"
