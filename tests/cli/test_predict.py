"""`g2dbench predict` applies a saved head; `eval --set` changes a protocol."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.opening import open_prepared
from g2dbench.evaluation.heads.saved_head import HEAD_FILE
from g2dbench.registry import Registry
from g2dbench.result import RESULT_FILE, load, load_all

pytestmark = pytest.mark.integration

DATA = "synthetic:120"


def g2dbench(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, " ".join(done.output.split())


def evaluate(store: Path, out: Path, *words: object) -> tuple[int, str]:
    common = ("--data", DATA, "--size", 64, "--store", store, "--out", out, "--device", "cpu")
    return g2dbench("eval", *common, "--model", "random-init", *words)


@pytest.fixture(scope="module")
def cell(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cell with a saved head."""
    out = tmp_path_factory.mktemp("results")
    words = ("--task", "cls", "--protocol", "sweep", "--save-heads", "--limit", 12)
    code, text = evaluate(small_store, out, *words)
    assert code == 0, text
    return next(out.rglob(HEAD_FILE)).parent


@pytest.fixture(scope="module")
def images(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cell's test images as files, in two folders."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    data = open_prepared(DATA, small_store, Registry(), size=64).split("test")
    for number in range(12):
        place = folder / "more" if number % 2 else folder
        name = data[number].id.replace("/", "_")
        Image.fromarray(data[number].image).save(place / f"{name}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_saved_head_predicts_what_the_evaluation_predicted(
    cell: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out.csv"
    code, text = g2dbench("predict", "--head", cell, "--images", images, "--out", out)
    assert code == 0, text
    found = pd.read_csv(out)
    assert list(found) == ["id", "finding", "score", "threshold", "exclusive"]
    assert f"12 images, cls:sweep of random-init fitted on {DATA}" in text
    stored = pd.read_parquet(cell / "predictions.parquet")
    stored["id"] = stored["id"].str.replace("/", "_")
    found["id"] = [Path(name).stem for name in found["id"]]
    both = found.merge(stored, on=["id", "finding"])
    assert len(both) == len(stored) == len(found)
    assert np.allclose(both["score_x"], both["score_y"], rtol=0, atol=1e-12)


def test_what_cannot_be_applied_is_a_sentence(
    cell: Path, images: Path, tmp_path: Path, small_store: Path
) -> None:
    out = ("--out", tmp_path / "out.csv")
    code, text = g2dbench("predict", "--head", cell, "--images", images, *out, "--model", "chance")
    assert code == 1
    assert "weights of chance are not those for which the head was fitted" in text
    (tmp_path / "empty").mkdir()
    code, text = g2dbench("predict", "--head", cell, "--images", tmp_path / "empty", *out)
    assert code == 1
    assert "holds no image" in text
    (tmp_path / "empty" / "broken.png").write_bytes(b"no image")
    code, text = g2dbench("predict", "--head", cell, "--images", tmp_path / "empty", *out)
    assert code == 1
    assert "broken.png" in text
    assert not (tmp_path / "out.csv").exists()
    code, text = g2dbench("predict", "--head", tmp_path, "--images", images, *out)
    assert code == 1
    assert "cannot be read as a result" in text
    evaluate(small_store, tmp_path / "r", "--task", "zeroshot")
    zeroshot = next((tmp_path / "r").rglob(RESULT_FILE)).parent
    code, text = g2dbench("predict", "--head", zeroshot, "--images", images, *out)
    assert code == 1
    assert "cannot apply a fitted head" in text


def test_a_changed_setting_is_part_of_the_cells_name_and_identity(
    small_store: Path, tmp_path: Path
) -> None:
    words = ("--task", "cls", "--protocol", "sweep")
    for changes in ((), ("uncertain=zeros",), ("uncertain=ignore",)):
        options = [word for change in changes for word in ("--set", change)]
        code, text = evaluate(small_store, tmp_path, *words, *options)
        assert code == 0, text
    assert "on disk" in text  # the last change is none
    names = sorted(result.cell.protocol for result in load_all(tmp_path))
    assert names == ["sweep", "sweep+uncertain=zeros"]
    marked = next(tmp_path.rglob("sweep+uncertain=zeros-*")) / RESULT_FILE
    config = load(marked).provenance.config
    assert config["protocol"]["labels"]["uncertain"] == "zeros"
    assert g2dbench("score", tmp_path)[0] == 0
    code, text = evaluate(small_store, tmp_path, *words, "--set", "uncertian=zeros")
    assert code == 2
    assert "did you mean 'uncertain'" in text
