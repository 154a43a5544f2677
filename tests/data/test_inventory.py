"""`g2dbench data list`, and user data from preparation to a result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from g2dbench.cards import DatasetCard
from g2dbench.cli import app
from g2dbench.data.inventory import list_datasets
from g2dbench.registry import Registry


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    return done.exit_code, done.output


def user_images(root: Path) -> Path:
    """Twelve bright and twelve dark images, and a table that labels the bright ones."""
    rows = ["image,class,patient"]
    for index in range(24):
        pixels = np.full((40, 40), 60 + 100 * (index % 2), np.uint8)
        pixels[:3, :3] = index
        path = root / f"images/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        rows.append(f"{index}.png,{'bright' if index % 2 else 'dark'},p{index}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def test_the_list_fits_80_columns_and_shows_prepared_stores(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text = run("data", "list", "--store", small_store)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    for card in Registry().cards(DatasetCard):
        assert f"\n{card.name}  " in f"\n{text}"
    flat = " ".join(text.split())
    assert "64 px: 120" in flat
    assert "PhysioNet" in flat
    assert "offers: labels, boxes" in flat


def test_the_list_as_json_contains_complete_cards(small_store: Path) -> None:
    code, text = run("data", "list", "--json", "--store", small_store)
    assert code == 0
    found = {item["name"]: item for item in json.loads(text)}
    assert found.keys() == {card.name for card in Registry().cards(DatasetCard)}
    (store,) = found["synthetic"]["prepared"]
    assert (store["size"], store["images"], sum(store["splits"].values())) == (64, 120, 120)
    assert found["rsna"]["url"].startswith("https://www.kaggle.com/c/rsna")
    assert found["rsna"]["prepared"] == []


def test_the_list_imports_neither_torch_nor_pandas(small_store: Path) -> None:
    arguments = ["data", "list", "--store", str(small_store)]
    code = (
        "import sys\nfrom g2dbench.cli import app\n"
        f"try: app({arguments!r})\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_broken_stores_are_listed_as_broken(tmp_path: Path) -> None:
    for name, text in (("rsna-256-0123abcd", "{"), ("rsna-512-0123abcd", '{"rows": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    (tmp_path / "mine-64-0123abcd").mkdir()
    (tmp_path / ".rsna-64-0123abcd.partial").mkdir()
    found = {item.name: item for item in list_datasets(Registry(), tmp_path)}
    assert [str(store) for store in found["rsna"].prepared] == ["256 px: broken", "512 px: broken"]
    assert found["mine"].own
    assert "partial" not in str(found)


def test_user_images_are_prepared_and_evaluated(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    root, store = user_images(tmp_path / "root"), tmp_path / "store"
    arguments = ("data", "prepare", "images", "--root", root, "--store", store, "--workers", 0)
    code, text = run(*arguments)
    assert code == 2
    assert "--name my_set" in text
    code, text = run(*arguments, "--name", "ward_7", "--option", "clas=class")
    assert code == 2
    assert "did you mean 'class'" in text
    code, text = run(*arguments, "--name", "ward_7", "--option", "class")
    assert (code, "write KEY=VALUE" in text) == (2, True)
    code, text = run(*arguments, "--name", "ward_7")
    assert code == 0, text
    assert "image=image, patient=patient" in text
    assert "bright" in run("data", "show", "ward_7", "--store", store)[1]
    (listed,) = [item for item in json.loads(run("data", "list", "--json", "--store", store)[1])
                 if item["own"]]  # fmt: skip
    assert (listed["name"], listed["offers"]) == ("ward_7", ["labels"])
    code, text = run(
        "eval", "--data", "ward_7", "--store", store, "--task", "zeroshot", "--model", "random-init"
    )
    assert code == 0, text
    results = [path for path in (tmp_path / "results").rglob("*.json") if "ward_7" in str(path)]
    assert results
    code, text = run("eval", "--data", "ward_8", "--store", store, "--task", "zeroshot")
    assert code == 2
    assert "there is no data set 'ward_8'" in text
