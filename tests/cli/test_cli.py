"""The command line as a user meets it: sentences, exit codes, nothing lost."""

import json
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.reporting.results import result
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.result import RESULT_FILE, load, load_all, save

pytestmark = pytest.mark.integration

SMALL = ("--data", "synthetic:120", "--size", "64")


class Shell:
    """Runs g2dbench in this process, in a folder of its own."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, " ".join(done.output.split())

    def eval(self, *words: object, data: tuple[str, ...] = SMALL) -> tuple[int, str]:
        return self("eval", *data, "--store", self.store, *words)


@pytest.fixture
def shell(small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(small_store)


def test_pretrain_then_eval_takes_the_newest_run(
    shell: Shell, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    code, text = shell.eval("--task", "zeroshot")
    assert code == 0, text
    assert "newest run" in text
    (result,) = load_all(tmp_path / "results")
    assert result.cell.model.startswith("g2d-tiny+")
    assert (tmp_path / "results").glob("**/predictions.parquet")


def test_a_finished_cell_is_not_run_again_unless_asked(shell: Shell, tmp_path: Path) -> None:
    words = ("--task", "zeroshot", "--model", "random-init")
    assert shell.eval(*words)[0] == 0
    (path,) = (tmp_path / "results").rglob(RESULT_FILE)
    first = path.read_bytes()
    code, text = shell.eval(*words)
    assert (code, path.read_bytes()) == (0, first)
    assert "on disk" in text
    assert "0 already on disk" in shell.eval(*words, "--rerun")[1]


def test_a_grid_writes_a_cell_each_and_the_ids_of_its_subset(shell: Shell, tmp_path: Path) -> None:
    code, _ = shell.eval(
        "--task", "cls", "--task", "zeroshot", "--model", "random-init",
        "--fraction", "0.2", "--fraction", "1", "--seed", "0", "--seed", "1",
    )  # fmt: skip
    assert code == 0
    results = load_all(tmp_path / "results")
    assert len(results) == 2 * 2 + 2
    subsets = {}
    for path in (tmp_path / "results" / "cls").rglob("subset.json"):
        cell = load(path.parent / RESULT_FILE).cell
        subsets[cell.fraction, cell.seed] = set(json.loads(path.read_text())["ids"])
    assert subsets[0.2, 0] == subsets[0.2, 1] < subsets[1.0, 0]


@pytest.mark.parametrize(
    "task",
    [
        ("--task", "zeroshot"),
        pytest.param(("--task", "cls"), marks=pytest.mark.slow),
        pytest.param(("--task", "seg", "--protocol", "small"), marks=pytest.mark.slow),
    ],
    ids=lambda task: str(task[1]),
)
def test_scores_do_not_depend_on_the_batch_size(
    shell: Shell, tmp_path: Path, task: tuple[str, ...]
) -> None:
    for size in (5, 32):
        words = ("--model", "random-init", "--fraction", "0.1", "--batch-size", size)
        assert shell.eval(*task, *words, "--out", f"r{size}")[0] == 0
    one, other = (load_all(tmp_path / f"r{size}") for size in (5, 32))
    # as text, for an undefined score is NaN, which equals nothing
    texts = [[r.model_dump_json(include={"scores"}) for r in results] for results in (one, other)]
    assert texts[0] == texts[1]


def test_the_leaderboard_prints_every_format(shell: Shell) -> None:
    shell.eval("--task", "zeroshot", "--model", "random-init")
    for form in ("rich", "md", "csv", "latex", "json", "html"):
        code, text = shell("leaderboard", "--format", form)
        assert code == 0
        assert "random-init" in text


def test_an_edited_score_and_edited_predictions_are_detected(shell: Shell, tmp_path: Path) -> None:
    shell.eval("--task", "zeroshot", "--model", "random-init")
    wanted = "scored 1 cell from the predictions: 0 with other scores"
    assert shell("score") == (0, wanted)
    assert shell("verify") == (0, "1 result: 1 verified, 0 rejected")
    (path,) = (tmp_path / "results").rglob(RESULT_FILE)
    raw = json.loads(path.read_text())
    raw["scores"]["auc"]["value"] = 0.99
    path.write_text(json.dumps(raw))
    code, text = shell("score")
    assert code == 1
    assert "stored 0.990000" in text
    assert shell("score", "--write")[0] == 0
    assert shell("score")[0] == 0
    (path.parent / "predictions.parquet").write_bytes(b"PAR1 not really PAR1")
    code, text = shell("score")
    assert code == 1
    assert "predictions.parquet" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--task", "sge"), 2, "did you mean 'seg'"),
        (("--task", "seg", "--model", "convrit"), 2, "no model"),
        (("--task", "seg", "--model", "randominit"), 2, "did you mean 'random-init'"),
        (("--task", "seg", "--model", "biovil"), 2, "needs weights"),
        (("--task", "seg", "--model", "random-init", "--protocol", "g2b"), 2, "did you mean 'g2d'"),
        (("--task", "seg", "--model", "random-init", "--fraction", "0"), 2, "not in (0, 1]"),
        (("--task", "seg", "--model", "random-init", "--fraction", "1.5"), 2, "not in (0, 1]"),
        (("--task", "seg", "--model", "random-init", "--fraction", "nan"), 2, "not in (0, 1]"),
        (
            ("--task", "seg", "--model", "random-init", "--seed", "-1"),
            2,
            "Invalid value for '--seed'",
        ),
        (("--task", "seg", "--model", "random-init", "--device", "cuda:9"), 2, "not available"),
        (("--task", "seg", "--model", "random-init", "--device", "gpu"), 2, "not a device"),
        (("--task", "seg", "--model", "random-init", "--precision", "fp8"), 2, "unknown"),
        (("--task", "seg", "--model", "random-init", "--plugin", "no.py"), 2, "no plug-in file"),
        (("--task", "seg"), 2, "runs/ contains no finished run"),
    ],
)
def test_a_wrong_request_is_one_clear_error(
    shell: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    found, text = shell.eval(*words)
    assert found == code, text
    assert said in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (("--data", "synthetik"), 2, "did you mean 'synthetic'"),
        (("--data", "rsna"), 1, "not prepared"),
        (("--data", "rsna", "--root", "nowhere"), 1, "nowhere"),
        (("--data", "rsna:9"), 2, "only an embedded data set"),
        (("--data", "synthetic:0"), 2, "can be generated"),
    ],
)
def test_a_wrong_data_set_is_one_clear_error(
    shell: Shell, data: tuple[str, ...], code: int, said: str
) -> None:
    found, text = shell.eval("--task", "cls", "--model", "random-init", data=data)
    assert (found, said in text) == (code, True), text


def test_a_missing_column_is_named_with_its_file(shell: Shell, tmp_path: Path) -> None:
    root = tmp_path / "rsna"
    (root / "stage_2_train_images").mkdir(parents=True)
    (root / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height\na,1,1,1,1\n")
    (root / "stage_2_detailed_class_info.csv").write_text("patientId,class\na,Normal\n")
    code, text = shell.eval(
        "--task", "cls", "--model", "random-init", data=("--data", "rsna", "--root", str(root))
    )
    assert code == 1
    assert "stage_2_train_labels.csv" in text
    assert "Target" in text


def test_a_checkpoint_of_another_architecture_lists_its_keys(
    shell: Shell, trained: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    state = load_file(broken / "model.safetensors")
    gone = sorted(state)[0]
    state["stranger.weight"] = state.pop(gone)
    save_file(state, broken / "model.safetensors")
    code, text = shell.eval("--task", "cls", "--model", broken)
    assert code == 1
    assert gone in text
    assert "stranger.weight" in text


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_a_broken_weights_file_is_one_clear_error(
    shell: Shell, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    code, text = shell.eval("--task", "cls", "--model", "w.pth")
    assert code == 1
    assert "w.pth" in text


def test_a_weights_file_of_no_known_layout_asks_which(shell: Shell, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "w.pth")
    code, text = shell.eval("--task", "cls", "--model", "w.pth")
    assert code == 1
    assert "--model NAME:" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_refused_before_work(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir(mode=0o500)
    code, text = shell.eval("--task", "cls", "--model", "random-init")
    assert code == 2
    assert "cannot write to results" in text


def test_an_output_path_that_is_a_file_is_refused_before_work(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    code, text = shell.eval("--task", "cls", "--model", "random-init")
    assert code == 2
    assert "cannot write to results" in text
    assert (tmp_path / "results").read_text() == "mine"


def test_a_full_disk_leaves_no_partial_result(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "results")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    code, text = shell.eval("--task", "zeroshot", "--model", "random-init")
    assert code == 1
    assert "No space left" in text
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert all(path.suffix == ".lock" for path in files)


def test_regress_passes_on_a_rerun_and_fails_on_a_fall(shell: Shell, tmp_path: Path) -> None:
    words = ("--task", "zeroshot", "--task", "cls", "--model", "random-init")
    shell.eval(*words, "--out", "before")
    shell.eval(*words, "--out", "now")
    code, text = shell("regress", "--baseline", "before", "now", "--tolerance", "0")
    assert code == 0, text
    path = next((tmp_path / "now" / "cls").rglob(RESULT_FILE))
    raw = json.loads(path.read_text())
    raw["scores"]["auc"]["value"] -= 0.05
    path.write_text(json.dumps(raw))
    code, text = shell("regress", "--baseline", "before", "now", "--junit", "j.xml")
    assert code == 1
    assert "1 fell" in text
    assert 'failures="1"' in (tmp_path / "j.xml").read_text()


def test_regress_lists_only_changes_where_there_are_many(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("g2dbench.cli.compare.regress"), "_MAX_ROWS", 5)
    for folder, changed in (("before", 0.0), ("now", 0.3)):
        for seed in range(6):
            value = 0.5 - changed * (seed == 2)
            save(result(value, seed=seed), tmp_path / folder / f"cell-{seed}")
    code, text = shell("regress", "--baseline", "before", "now")
    assert code == 1
    assert "5 unchanged scores not listed" in text
    assert "0.2000" in text
    assert " s2 " in text
    assert " s3 " not in text


def test_regress_refuses_other_data(shell: Shell) -> None:
    words = ("--task", "zeroshot", "--model", "random-init", "--store", shell.store)
    shell("eval", *SMALL, *words, "--out", "before")
    other = Path("now")
    shutil.copytree("before", other)
    (path,) = other.rglob(RESULT_FILE)
    raw = json.loads(path.read_text())
    raw["provenance"]["data"] = "other"
    path.write_text(json.dumps(raw))
    code, text = shell("regress", "--baseline", "before", "now")
    assert code == 3
    assert "1 incomparable" in text


def test_doctor_and_lists_answer(shell: Shell) -> None:
    code, text = shell("doctor", "--store", shell.store)
    assert code == 0
    assert "synthetic" in text
    for kind in ("models", "tasks", "data", "recipes", "methods"):
        assert shell("list", kind)[0] == 0


def test_data_show_and_verify_answer(shell: Shell) -> None:
    for verb in ("show", "verify"):
        code, text = shell("data", verb, *SMALL[1:], "--store", shell.store)
        assert code == 0, text
        assert "120" in text
