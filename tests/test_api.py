"""The Python interface, as a notebook uses it: the blocks of docs/api.md, then each promise."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.pages import run_page
from support.reporting.results import result
from typer.testing import CliRunner

import g2dbench
from g2dbench.api import UnreadableResult
from g2dbench.cli import app
from g2dbench.errors import BadResult, Misuse
from g2dbench.reporting.result_table import COLUMNS
from g2dbench.result import Cell, Score, load_all, save

pytestmark = pytest.mark.integration

SMALL = {"data": "synthetic:120", "size": 64}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own; names of data sets are found in the small store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("G2DBENCH_STORE", str(own_store))
    return tmp_path


class Linear(g2dbench.Model):
    """One convolution; enough for `cls`."""

    card = g2dbench.ModelCard(
        name="linear", summary="", paper="", source="", licence="", capabilities=("features",)
    )
    preprocess = g2dbench.Preprocess(size=64, channels=1, mean=(0.5,), std=(0.25,))
    channels, strides, fixed_size = (4,), (32,), False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = torch.nn.Conv2d(1, 4, 32, stride=32)
        self.identity = g2dbench.Identity("linear")

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.layer(images)]

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).flatten(1)


def test_the_page_runs_as_a_notebook(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_page(project / "docs" / "api.md")
    printed = capsys.readouterr().out
    assert "random-init" in printed
    assert "blocks" in printed
    scores = g2dbench.load_results("results")
    status = scores.groupby(["model", "task"]).status.first().to_dict()
    assert status == {
        ("blocks", "cls"): "done",
        ("blocks", "ground"): "unsupported",
        ("random-init", "cls"): "done",
        ("random-init", "zeroshot"): "done",
    }


def test_importing_the_package_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, g2dbench; sys.exit(bool({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_call_returns_what_the_command_line_writes(small_store: Path, folder: Path) -> None:
    scores = g2dbench.evaluate("random-init", tasks=["zeroshot"], out="api", **SMALL)
    command = ["eval", "--task", "zeroshot", "--model", "random-init", "--data", "synthetic:120"]
    done = CliRunner().invoke(app, [*command, "--size", "64", "--out", "cli"])
    assert done.exit_code == 0, done.output
    (ours,), (theirs,) = load_all(folder / "api"), load_all(folder / "cli")
    assert {name: score.model_dump_json() for name, score in ours.scores.items()} == {
        name: score.model_dump_json() for name, score in theirs.scores.items()
    }
    assert ours.cell == theirs.cell
    assert ours.provenance.config["command"] == theirs.provenance.config["command"]
    assert dict(zip(scores.metric, scores.value, strict=True)) == pytest.approx(
        {name: score.value for name, score in ours.scores.items()}, nan_ok=True
    )
    pd.testing.assert_frame_equal(scores, g2dbench.load_results("api"))


@pytest.mark.slow
def test_a_script_without_a_main_guard_generates_the_embedded_data(folder: Path) -> None:
    """Worker processes would import the script again, and wait for each other forever."""
    text = """import g2dbench
scores = g2dbench.evaluate("random-init", ["zeroshot"], "synthetic:60", size=64, store="new")
print(scores.status[0])
"""
    Path("script.py").write_text(text)
    words = [sys.executable, "script.py"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


def test_a_second_call_reads_the_results_and_rerun_evaluates_again() -> None:
    def created(**more: bool) -> float:
        found = g2dbench.evaluate("random-init", tasks=["zeroshot"], **SMALL, **more)
        return float(found.seconds.iloc[0])

    first = created()
    assert created() == first
    assert created(rerun=True) != first


def test_a_model_that_was_trained_further_is_another_model() -> None:
    model = Linear().train()
    model.layer.eval()
    before = g2dbench.evaluate(model, tasks=["cls"], **SMALL)
    assert model.training
    assert not model.layer.training
    with torch.no_grad():
        model.layer.weight.mul_(-3).add_(0.01)
    after = g2dbench.evaluate(model, tasks=["cls"], **SMALL)
    same = g2dbench.evaluate(model, tasks=["cls"], **SMALL)
    assert set(before.status) == set(after.status) == {"done"}
    assert before.weights.iloc[0] != after.weights.iloc[0] == same.weights.iloc[0]
    assert before.folder.iloc[0] != after.folder.iloc[0] == same.folder.iloc[0]
    assert g2dbench.leaderboard("results").model.nunique() == 2


def test_an_unsupported_cell_has_a_row_with_its_reason() -> None:
    scores = g2dbench.evaluate(Linear(), tasks=["ground", "cls"], label="mine", **SMALL)
    (ground,) = scores[scores.task == "ground"].itertuples()
    assert ground.status == "unsupported"
    assert "locates" in ground.reason
    assert pd.isna(ground.value)
    assert set(scores[scores.task == "cls"].status) == {"done"}
    assert set(scores.model) == {"mine"}


def test_an_open_data_set_can_be_given(small_store: Path) -> None:
    from g2dbench.data.opening import open_prepared
    from g2dbench.registry import Registry

    opened = open_prepared("synthetic:120", small_store, Registry(), size=64)
    scores = g2dbench.evaluate("random-init", tasks=["zeroshot"], data=opened)
    assert set(scores.data) == {"synthetic:120"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tasks": "cls"}, r"give a list, tasks=\['cls'\]"),
        ({"tasks": []}, "tasks is empty"),
        ({"fractions": 0.5}, r"fractions=0.5 is no list: give a list, fractions=\[0.5\]"),
        ({"seeds": 3}, "seeds=3 is no list"),
        ({"subset_seeds": []}, "subset_seeds is empty"),
        ({"tasks": ["clss"]}, "did you mean 'cls'"),
        ({"model": "random-inot"}, "did you mean 'random-init'"),
        ({"model": torch.nn.Linear(2, 2)}, "Linear is not a g2dbench.Model"),
        ({"model": 3}, "model is of the type int"),
        ({"fractions": [0.0]}, "fraction"),
        ({"data": "nothing"}, "nothing"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    given: dict[str, object], sentence: str, folder: Path
) -> None:
    request = {"model": "random-init", "tasks": ["cls"], **SMALL} | given
    with pytest.raises(Misuse, match=sentence):
        g2dbench.evaluate(**request)
    assert not list((folder / "results").rglob("result.json"))


def test_a_model_without_identity_is_refused() -> None:
    model = Linear()
    del model.identity
    with pytest.raises(Misuse, match="has no identity"):
        g2dbench.evaluate(model, tasks=["cls"], **SMALL)


def test_the_table_has_all_cell_fields_and_keeps_missing_numbers() -> None:
    save(result(0.5, seed=1, limit=7, model_seed=2), Path("r/a"))
    save(result(0.5, seed=2, status="failed", scores={}, reason="why"), Path("r/b"))
    both = {"dice": Score(value=0.25, n=4, bearers=3), "iou": Score(value=float("nan"))}
    save(result(seed=3, scores=both, counts={"train": 9}), Path("r/c"))
    table = g2dbench.load_results("r")
    assert tuple(table.columns) == COLUMNS
    assert set(Cell.model_fields) < set(COLUMNS)
    assert table.seed.tolist() == [1, 2, 3, 3]
    assert table.limit.tolist() == [7, pd.NA, pd.NA, pd.NA]
    assert table.status.tolist() == ["done", "failed", "done", "done"]
    assert table.reason.tolist()[1] == "why"
    assert table.metric.tolist() == ["dice", "dice", "dice", "iou"]
    assert table.main.tolist() == [True, True, True, False]
    assert table.value.isna().tolist() == [False, True, False, True]
    assert table.train.tolist()[2:] == [9, 9]
    assert str(table.created.dt.tz) == "UTC"


def test_a_broken_result_is_left_out_with_a_warning() -> None:
    save(result(), Path("r/a"))
    shutil.copytree("r/a", "r/b")
    Path("r/b/result.json").write_text("{")
    with pytest.warns(UnreadableResult, match=r"r/b/result\.json"):
        assert len(g2dbench.load_results("r")) == 1
    Path("r/a/result.json").unlink()
    with pytest.raises(BadResult, match=r"r/b/result\.json"):
        g2dbench.load_results("r")


def test_limited_results_enter_the_leaderboard_only_on_request() -> None:
    save(result(0.5), Path("r/a"))
    save(result(0.7, model="other", limit=5), Path("r/b"))
    board = g2dbench.leaderboard("r")
    assert board.model.tolist() == ["g2d"]
    assert any("1 result" in note for note in board.attrs["notes"])
    assert set(g2dbench.leaderboard("r", with_limited=True).model) == {"g2d", "other"}
