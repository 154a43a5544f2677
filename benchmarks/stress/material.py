"""What the campaigns work on: a small data set, a recipe, a finished run and finished results."""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from children import Ended, command
from PIL import Image

COUNT, SIZE = 48, 64
RECIPE = """
name = "stress"
method = "convirt"
[data]
size = 64
[model]
width = 8
[model.image]
encoder = "tu-mobilenetv3_small_050"
size = 32
depth = 3
[model.text]
layers = 1
hidden = 16
heads = 2
max_length = 12
[augment]
policy = "light"
[optim]
epochs = 2
batch_size = 8
"""


@dataclass
class Material:
    """The folders of a campaign, and what its commands give without a fault."""

    base: Path
    reference: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.base / "store"

    @property
    def recipe(self) -> Path:
        return self.base / "stress.toml"

    @property
    def run(self) -> Path:
        return self.base / "run"

    @property
    def results(self) -> Path:
        return self.base / "results"

    def prepare(self, root: Path, store: Path) -> list[object]:
        return ["data", "prepare", "rsna", "--root", root, "--size", SIZE, "--workers", 0,
                "--store", store]  # fmt: skip

    def pretrain(self, out: Path, resume: bool) -> list[object]:
        return ["pretrain", "--recipe", self.recipe, "--data", f"synthetic:{COUNT}", "--store",
                self.store, "--out", out, "--save-every", 2, "--device", "cpu",
                *(["--resume"] if resume else [])]  # fmt: skip

    def eval(self, out: Path, *more: object, model: object = "random-init") -> list[object]:
        return ["eval", "--task", "cls", "--model", model, "--data", f"synthetic:{COUNT}",
                "--store", self.store, "--out", out, "--feature-cache", self.base / "cache",
                "--size", SIZE, "--seed", 0, "--seed", 1, "--device", "cpu", *more]  # fmt: skip


def write_root(root: Path, count: int) -> None:
    """RSNA's layout with `count` images."""
    folder = root / "stage_2_train_images"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    rows = []
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"p{number:03d}.png")
        box = "100,200,300,400,1" if number % 3 == 0 else ",,,,0"
        rows.append(f"p{number:03d},{box}\n")
    table = "patientId,x,y,width,height,Target\n" + "".join(rows)
    (root / "stage_2_train_labels.csv").write_text(table)


def must(ended: Ended) -> Ended:
    if ended.code != 0:
        raise SystemExit(f"a command without a fault ended with {ended.code}: {ended.text[-3000:]}")
    return ended


def make(base: Path) -> Material:
    """Prepare, train and evaluate once without faults; the time of each is in `reference`."""
    base.mkdir(parents=True)
    made = Material(base)
    made.recipe.write_text(RECIPE)
    for name, count in (("root", 40), ("root-more", 44)):
        write_root(base / name, count)
        store = base / f"store-of-{name}"
        seconds = must(command(made.prepare(base / name, store)).wait()).seconds
        (manifest,) = store.glob("*/manifest.json")
        made.reference[name] = json.loads(manifest.read_text())["fingerprint"]
        made.reference["prepare seconds"] = seconds
    must(
        command(
            [
                "data",
                "prepare",
                f"synthetic:{COUNT}",
                "--size",
                SIZE,
                "--workers",
                0,
                "--store",
                made.store,
            ]
        ).wait()
    )
    made.reference["pretrain seconds"] = must(
        command(made.pretrain(made.run, False)).wait()
    ).seconds
    made.reference["weights"] = sha256(made.run / "model.safetensors")
    must(command(made.eval(made.results)).wait())
    shutil.rmtree(made.results)
    made.reference["eval seconds"] = must(command(made.eval(made.results)).wait()).seconds
    made.reference["scores"] = scores_in(made.results)
    return made


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cells_in(results: Path) -> list[Path]:
    """The folders of finished cells, as a reader finds them."""
    found = results.glob("*/*/*/[!.]*/result.json")
    return sorted(path.parent for path in found)


def scores_in(results: Path) -> dict[str, Any]:
    return {
        str(cell.relative_to(results)): json.loads((cell / "result.json").read_text())["scores"]
        for cell in cells_in(results)
    }


def torn_cells(results: Path) -> list[str]:
    """Cells whose result is not done, or not of the predictions beside it."""
    torn = []
    for cell in cells_in(results):
        try:
            raw = json.loads((cell / "result.json").read_text())
            digest = sha256(cell / "predictions.parquet")
        except (OSError, ValueError) as error:
            torn.append(f"{cell.name}: {error}")
            continue
        if raw["status"] != "done" or raw["provenance"]["predictions"] != digest:
            torn.append(f"{cell.name}: {raw['status']} {raw['reason']}")
    return torn


def leftovers(folder: Path) -> list[str]:
    """Hidden files below a folder that are no locks."""
    hidden = (path for path in folder.rglob(".*") if not path.name.endswith(".lock"))
    return [str(path) for path in hidden if path.name not in (".lock", ".locks")]
