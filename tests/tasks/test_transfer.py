"""Transfer to another modality: the commands of docs/tasks/transfer.md on real fundus images."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.result import PREDICTIONS_FILE, RESULT_FILE, Result, load

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def fundus(real_data: Path) -> Path:
    folder = real_data / "real" / "retina_drive_chase"
    if not folder.is_dir():
        pytest.skip(f"no fundus images at {folder}")
    return folder


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def results(folder: Path) -> dict[Path, Result]:
    return {path.parent: load(path) for path in sorted(folder.rglob(RESULT_FILE))}


def test_vessels_are_segmented_with_the_reader_and_the_task_as_they_are(
    fundus: Path, tmp_path: Path
) -> None:
    store = ("--store", tmp_path / "store")
    run("data", "prepare", "fundus", "--root", fundus, "--size", 128, *store)
    out = tmp_path / "results"
    run(
        "eval", "--task", "seg", "--protocol", "small", "--data", "fundus",
        "--model", "random-init", "--out", out, *store,
    )  # fmt: skip
    ((folder, result),) = results(out).items()
    assert (result.status, result.counts["test"]) == ("done", 10)
    # Vessels cover a tenth of the image: a mask of everything has a Dice near .2.
    assert 0.05 < result.scores["dice:Vessel"].value < 1
    predictions = pd.read_parquet(folder / PREDICTIONS_FILE)
    assert set(predictions["finding"]) == {"Vessel"}
    assert predictions["patient"].nunique() == 10


def test_classification_without_labels_says_so(fundus: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "store")
    run("data", "prepare", "fundus", "--root", fundus, "--size", 64, *store)
    words = ["eval", "--task", "cls", "--data", "fundus", "--model", "random-init"]
    words += ["--out", str(tmp_path / "results"), *map(str, store)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "cls needs labels; fundus offers masks" in " ".join(done.output.split())


def test_images_with_a_table_are_classified(fundus: Path, tmp_path: Path) -> None:
    root = tmp_path / "eyes"
    root.mkdir()
    rows = []
    for path in [*fundus.glob("CHASEDB1/*.jpg"), *fundus.glob("DRIVE/*/images/*")]:
        shutil.copy(path, root)
        chase = re.match(r"Image_(\d\d)", path.name)
        number = int(chase[1] if chase else path.name.partition("_")[0])
        valid, test = (number == 5, number > 5) if chase else (21 <= number <= 24, number <= 20)
        rows.append(
            {
                "image": path.name,
                "patient": f"{'chase' if chase else 'drive'}_{number:02d}",
                "split": "test" if test else "valid" if valid else "train",
                "CHASE_DB1": int(chase is not None),
            }
        )
    pd.DataFrame(rows).to_csv(root / "labels.csv", index=False)
    store, out = ("--store", tmp_path / "store"), tmp_path / "results"
    run("data", "prepare", "images", "--root", root, "--name", "eyes", "--size", 128, *store)
    for task in ("cls", "robustness"):
        words = ("--task", task, "--data", "eyes", "--model", "random-init", "--out", out)
        run("eval", *words, *store)
    found = {result.cell.task: result for result in results(out).values()}
    assert found["cls"].scores["auc:CHASE_DB1"].value > 0.9  # another camera
    assert found["robustness"].scores["auc_clean:CHASE_DB1"].value > 0.9
