"""The first thing a newcomer runs, whole; minutes long, so `make nightly` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.reporting.report import decisions, write
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.cli.evaluate import demo
from g2dbench.data.opening import open_prepared
from g2dbench.dataset import Dataset
from g2dbench.registry import Registry
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard, build_leaderboard
from g2dbench.result import load_all


def test_the_demo_ends_with_a_report_of_its_results(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_prepared("synthetic:120", small_store, Registry(), size=64)
    ids = data.table["id"].tolist()
    rows = decisions(0).assign(id=lambda table: [ids[int(name[1:])] for name in table["id"]])

    def evaluate(
        seed: int, runs: list, data: Dataset, films: Dataset, out: Path, _: object
    ) -> None:
        for name in ("synthetic", "synthetic-rsna"):
            write(out / name, rows, data.fingerprint, data=name)

    monkeypatch.setattr(demo, "open_data", lambda *_: data)
    monkeypatch.setattr(demo, "_films", lambda *_: data)
    monkeypatch.setattr(demo, "_train", lambda *_: tmp_path)
    monkeypatch.setattr(demo, "_evaluate", evaluate)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")])
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    text = (tmp_path / "demo" / "report.html").read_text()
    assert "No images" not in text
    assert text.count('id="cards-') == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_ranks_three_models_on_all_five_tasks_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "g2dbench", "demo", "--store", str(tmp_path / "store")]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    board = build_leaderboard(load_all(tmp_path / "demo" / "results"))
    assert set(board.models) == {"g2d-tiny", "convirt-tiny", "random-init"}
    assert {column.task for column in board.columns} == {"cls", "zeroshot", "seg", "det", "ground"}
    assert len(board.entries) == len(board.models) * len(board.columns)
    assert_training_pays(board)
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
    assert "demo/report.html" in first.stdout
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stdout.count("(on disk)") == len(board.entries)


def assert_training_pays(board: Leaderboard) -> None:
    """What the README says: each task tells a trained model from an untrained one."""
    for column in board.columns:
        g2d, convirt, untrained = (
            board.entries[model, column] for model in ("g2d-tiny", "convirt-tiny", "random-init")
        )
        assert g2d.low > untrained.high, column
        assert convirt.mean > untrained.mean, column
