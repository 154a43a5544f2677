"""`figure` and `profile`, and the options of `pretrain` that watch: what a user sees."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from g2dbench.cards import MethodCard
from g2dbench.cli import app
from g2dbench.data.prepare import require_store
from g2dbench.pretrained.text.tokenizer import save_tokenizer, train_wordpiece
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.runs.folder import RunFolder, RunInfo
from g2dbench.training import step_cost
from g2dbench.training.step_cost import Cost, Job

pytestmark = pytest.mark.integration

MODEL = {
    "width": 8,
    "image": {"encoder": "resnet18", "size": 32},
    "text": {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12},
}
DATA = ("--data", "synthetic:120", "--size", "64")


class Shell:
    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def shell(small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("G2DBENCH_STORE", str(small_store))
    return Shell(small_store)


def run_of(method: str, folder: Path) -> Path:
    """A complete run folder with fresh weights."""
    tokenizer = train_wordpiece(["the heart is large", "no effusion"], 60)
    made = Registry().find(MethodCard, method).load().build(MODEL, tokenizer, 0)
    info = RunInfo(
        label=f"my-{method}", recipe=Recipe(name=f"my-{method}", method=method), seed=0,
        architecture=made.architecture, data="synthetic", fingerprint="f" * 64, pairs=1,
        precision="fp32", device="cpu",
    )  # fmt: skip
    folder.mkdir()
    save_tokenizer(tokenizer, folder)
    RunFolder(folder, info).finish(made.state_dict())
    return folder


def test_a_figure_of_named_samples_and_files(shell: Shell, tmp_path: Path) -> None:
    run = run_of("g2d", tmp_path / "run")
    data = require_store("synthetic", None, shell.store, size=64, registry=Registry())
    name = str(data.table["id"].iloc[3])
    Image.fromarray(np.full((50, 40), 90, np.uint8)).save(tmp_path / "film.png")
    words = (*DATA, "--id", name, "--images", "film.png", "--out", "a/b.png")
    code, text = shell("figure", run, *words)
    assert (code, text) == (0, "drew the maps of my-g2d for 2 images: wrote a/b.png")
    with Image.open("a/b.png") as one:
        wide = one.width
    code, _ = shell("figure", run, *DATA, "--text", "effusion", "--out", "c.jpg")
    assert code == 0
    with Image.open("c.jpg") as other:
        assert other.width == wide + 152
        assert other.format == "JPEG"


def test_a_method_without_masks_shows_where_it_finds_a_text(shell: Shell, tmp_path: Path) -> None:
    run = run_of("convirt", tmp_path / "run")
    code, text = shell("figure", run, *DATA)
    assert code == 2
    assert "my-convirt has no attention maps or masks to draw; --text TEXT" in text
    assert not Path("figure.png").exists()
    assert shell("figure", run, *DATA, "--text", "effusion")[0] == 0


def test_a_figure_says_what_is_wrong(shell: Shell, tmp_path: Path) -> None:
    run = run_of("g2d", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.png").write_text("no picture")
    cases = (
        ((tmp_path / "empty", *DATA), 2, "is not a run folder: it has no run.json"),
        (("nowhere", *DATA), 2, "there is no model, run folder or weights file 'nowhere'"),
        ((run, *DATA, "--id", "s9"), 2, "has no image 's9'; it has s0-i000000"),
        ((run, "--id", "s9"), 2, "give the data set too, --data NAME"),
        ((run,), 2, "no images are given"),
        ((run, "--images", "notes.png"), 1, "notes.png is no image"),
        ((run, "--images", "no.png"), 1, "no.png cannot be read"),
        ((run, *DATA, "--out", "run.json"), 2, "no picture format '.json'"),
        ((run, *DATA, "--out", "notes.png/a.png"), 1, "notes.png"),
    )
    for words, code, said in cases:
        found, text = shell("figure", *words)
        assert found == code, text
        assert said in text


def test_training_refuses_an_unknown_tracker_before_it_begins(shell: Shell, tmp_path: Path) -> None:
    code, text = shell("pretrain", "--track", "wandbb")
    assert code == 2
    assert "there is no tracker 'wandbb': did you mean 'wandb'?" in text
    (tmp_path / "file").touch()
    code, text = shell("pretrain", *DATA[:2], "--out", "file/run", "--set", "data.size=64")
    assert code == 2
    assert "the run folder file/run cannot be created" in text
    assert not Path("runs").exists()


def test_the_profile_is_a_table_within_eighty_columns_and_a_file(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(job: Job) -> Cost:
        more = job.trains != "encoder only"
        return Cost(
            recipe=job.recipe.name, method=job.recipe.method, trains=job.trains, batch_size=128,
            image_size=224, report_length=256, weights=142_000_000, learning=140_000_000,
            gflop_per_image=200.0 + 50 * more, images_per_s=100 - 20 * more,
            peak_mib=12000 + 3000 * more, device="cpu", precision="bf16", hardware="a processor",
        )  # fmt: skip

    monkeypatch.setattr(step_cost, "measure", measure)
    monkeypatch.setenv("COLUMNS", "80")
    words = ["profile", "--recipe", "g2d-paper", "--random-weights", "--json", "costs.json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    for cell in ("g2d-paper", "128x224", "142.0M", "250", "15000"):
        assert cell in done.output
    assert "takes 1.25 times the time, 1.25 times the FLOPs and 1.25 times" in " ".join(
        done.output.split()
    )
    kept = json.loads(Path("costs.json").read_text())
    assert [row["trains"] for row in kept] == ["encoder only", "encoder + decoder"]
    code, text = shell("profile", "--recipe", "g2d-papr")
    assert (code, "did you mean 'g2d-paper'" in text) == (2, True)
