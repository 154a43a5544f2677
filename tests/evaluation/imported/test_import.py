"""Imported predictions: the same scores as predictions made here, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.data.annotations import rle
from g2dbench.data.opening import open_prepared
from g2dbench.dataset import Dataset
from g2dbench.registry import Registry
from g2dbench.result import load_all

DATA = "synthetic:120"


@pytest.fixture(scope="module")
def test_split(small_store: Path) -> Dataset:
    return open_prepared(DATA, small_store, Registry(), size=64).split("test")


@pytest.fixture
def imports(small_store: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def run(file: Path, task: str, *words: str, model: str = "theirs") -> tuple[int, str]:
        options = ["--data", DATA, "--size", "64", "--store", str(small_store)]
        where = ["--out", str(tmp_path / "results"), "--task", task, "--model", model]
        done = CliRunner().invoke(app, ["import", str(file), *where, *options, *words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, " ".join(done.output.split())

    return run


def findings(test: Dataset) -> list[str]:
    columns = [name for name in test.table if name.startswith("label:")]
    known = [name for name in columns if test.table[name].isin([0, 1]).any()]
    return [name.removeprefix("label:") for name in known]


def scores(test: Dataset) -> pd.DataFrame:
    """Noisy truth in long form."""
    random, rows = np.random.default_rng(0), []
    for _, image in test.table.iterrows():
        for finding in findings(test):
            if finding.lower() in ("no finding", "normal"):
                continue
            truth = image[f"label:{finding}"]
            value = np.clip(0.3 + 0.3 * (truth == 1) + random.normal(0, 0.2), 0, 1)
            text = "" if np.isnan(truth) else f"{truth:g}"
            rows.append({"id": image["id"], "finding": finding, "score": value, "truth": text})
    return pd.DataFrame(rows)


def written(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "theirs.csv"
    table.to_csv(path, index=False)
    return path


def test_scores_in_long_and_wide_form_give_one_auc(
    imports: Callable[..., tuple[int, str]], test_split: Dataset, tmp_path: Path
) -> None:
    from sklearn.metrics import roc_auc_score

    table = scores(test_split)
    code, text = imports(written(table, tmp_path), "zeroshot")
    assert code == 0, text
    (long,) = load_all(tmp_path / "results")
    aucs = []
    for _, part in table[table["truth"].isin(["0", "1"])].groupby("finding"):
        if part["truth"].nunique() == 2:
            aucs.append(roc_auc_score(part["truth"] == "1", part["score"]))
    assert long.main is not None
    assert long.main.value == pytest.approx(np.mean(aucs))
    assert long.details["imported"] is True
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "results")]).exit_code == 0
    assert "was imported before" in imports(written(table, tmp_path), "zeroshot")[1]
    shuffled = table.sample(frac=1, random_state=1)
    wide = shuffled.pivot(index="id", columns="finding", values="score").reset_index()
    assert imports(written(wide, tmp_path), "zeroshot", model="wide")[0] == 0
    other = next(r for r in load_all(tmp_path / "results") if r.cell.model == "wide")
    assert other.scores["auc"].value == pytest.approx(long.scores["auc"].value)


def edit_scores(change: str, table: pd.DataFrame) -> pd.DataFrame:
    first = table.index[0]
    if change == "missing":
        return table.drop(first)
    if change == "twice":
        return pd.concat([table, table.iloc[:1]])
    if change == "swapped":
        ids = list(table["id"].unique())
        return table.assign(id=table["id"].map(dict(zip(ids, ids[::-1], strict=True))))
    column, value = {
        "unknown image": ("id", "nobody"),
        "unknown finding": ("finding", "goitre"),
        "logit": ("score", 3.2),
        "nan": ("score", np.nan),
        "text": ("score", "high"),
        "truth": ("truth", "7"),
    }[change]
    return table.astype(object).assign(
        **{column: [value if i == first else v for i, v in table[column].items()]}
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "1 of"),
        ("twice", "is given twice"),
        ("swapped", "truths are not those of"),
        ("unknown image", "'nobody' is no test image"),
        ("unknown finding", "'goitre' is no finding"),
        ("logit", "write probabilities, not logits"),
        ("nan", "not a number"),
        ("text", "not a number"),
        ("truth", "not 0, 1 or -1"),
    ],
)
def test_a_faulty_file_is_one_sentence_that_names_the_row(
    imports: Callable[..., tuple[int, str]],
    test_split: Dataset,
    tmp_path: Path,
    change: str,
    words: str,
) -> None:
    path = written(edit_scores(change, scores(test_split)), tmp_path)
    code, text = imports(path, "zeroshot")
    assert code == 1
    assert words in text
    assert "theirs.csv" in text
    assert not list((tmp_path / "results").rglob("result.json"))


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"id\n1\n", b"id,finding,score\n"])
def test_garbage_is_one_sentence(
    imports: Callable[..., tuple[int, str]], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "theirs.csv"
    path.write_bytes(content)
    for task in ("zeroshot", "cls", "seg", "det"):
        code, text = imports(path, task)
        assert code == 1
        assert "theirs.csv" in text


def test_what_cannot_be_imported_is_a_wrong_request(
    imports: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = written(pd.DataFrame({"id": ["a"]}), tmp_path)
    assert "cannot import" in imports(path, "ground")[1]
    assert imports(tmp_path / "absent", "seg")[0] == 2
    assert imports(path, "seg", model="\x1b[31m")[0] == 2


def test_class_scores_with_a_threshold(
    imports: Callable[..., tuple[int, str]], test_split: Dataset, tmp_path: Path
) -> None:
    table = scores(test_split)
    rest = [f for f in findings(test_split) if f not in set(table["finding"])]
    more = [{"id": i, "finding": f, "score": 0.5} for i in test_split.table["id"] for f in rest]
    table = pd.concat([table, pd.DataFrame(more)]).assign(threshold=0.45)
    code, text = imports(written(table, tmp_path), "cls", "--fraction", "0.1", "--seed", "2")
    assert code == 0, text
    (result,) = load_all(tmp_path / "results")
    assert (result.cell.fraction, result.cell.seed) == (0.1, 2)
    assert 0 < result.scores["f1"].value < 1
    assert result.counts["train"] > 0
    uneven = table.assign(threshold=np.linspace(0, 1, len(table)))
    assert "several thresholds" in imports(written(uneven, tmp_path), "cls")[1]


def masks(test: Dataset, compressed: bool) -> pd.DataFrame:
    names = sorted({f for sample in test for f, m in (sample.masks or {}).items() if m.any()})
    rows = []
    for sample in test:
        if sample.masks is None:
            continue
        for finding in names:
            mask = sample.masks.get(finding, np.zeros(sample.image.shape, bool))
            numbers = " ".join(map(str, rle.to_runs(mask))) if mask.any() else ""
            rows.append({"id": sample.id, "finding": finding,
                         "counts": rle.encode(mask) if compressed else numbers})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("compressed", [True, False])
def test_true_masks_have_a_dice_of_one(
    imports: Callable[..., tuple[int, str]], test_split: Dataset, tmp_path: Path, compressed: bool
) -> None:
    table = masks(test_split, compressed)
    code, text = imports(written(table, tmp_path), "seg", "--protocol", "small")
    assert code == 0, text
    (result,) = load_all(tmp_path / "results")
    assert result.scores["dice"].value == 1
    for counts, words in (("5 5", "cover 10 pixels"), ("abc", "mask"), ("9" * 30, "line 2")):
        wrong = table.assign(counts=[counts, *table["counts"][1:]])
        code, text = imports(written(wrong, tmp_path), "seg", "--protocol", "small")
        assert code == 1
        assert words in text
    sized = table.assign(height=1024, width=1024)
    assert "resize" in imports(written(sized, tmp_path), "seg", "--protocol", "small")[1]


def test_pngs_in_a_folder_or_named_by_a_table_are_the_same_masks(
    imports: Callable[..., tuple[int, str]], test_split: Dataset, tmp_path: Path
) -> None:
    table = masks(test_split, True)
    sizes = {sample.id: sample.image.shape for sample in test_split}
    folder, names = tmp_path / "masks", []
    for row in table.to_dict("records"):
        file = folder / row["finding"] / f"{row['id']}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rle.decode(row["counts"], sizes[row["id"]]).astype(np.uint8) * 255
        Image.fromarray(pixels).save(file)
        names.append(str(file.relative_to(tmp_path)))
    code, text = imports(folder, "seg", "--protocol", "small", model="folder")
    assert code == 0, text
    named = written(table.drop(columns="counts").assign(mask=names), tmp_path)
    assert imports(named, "seg", "--protocol", "small", model="table")[0] == 0
    assert "imported before" in imports(named, "seg", "--protocol", "small", model="table")[1]
    assert [r.scores["dice"].value for r in load_all(tmp_path / "results")] == [1, 1]
    for task in ("zeroshot", "cls", "det"):
        code, text = imports(folder, task)
        assert code == 1
        assert "masks" in text
    wrong = tmp_path / names[0]  # a changed picture is another import, and is seen
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(wrong)
    code, text = imports(named, "seg", "--protocol", "small", model="table")
    assert (code, "3 x 3 pixels" in text) == (1, True)
    wrong.unlink()
    assert "1 of" in imports(folder, "seg", "--protocol", "small", model="folder")[1]


def boxes(test: Dataset) -> list[dict[str, object]]:
    return [
        {"image_id": sample.id, "category_id": box.finding, "score": 0.9,
         "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0]}
        for sample in test for box in sample.boxes or ()
    ]  # fmt: skip


def test_true_boxes_have_a_map_of_one(
    imports: Callable[..., tuple[int, str]], test_split: Dataset, tmp_path: Path
) -> None:
    path, found = tmp_path / "theirs.json", boxes(test_split)
    path.write_text(json.dumps(found))
    code, text = imports(path, "det")
    assert code == 0, text
    (result,) = load_all(tmp_path / "results")
    assert result.scores["map"].value == pytest.approx(1)
    wrong = {
        "image_id": "nobody",
        "bbox": [1, 2, 3],
        "score": 7,
    }
    for key, value in wrong.items():
        path.write_text(json.dumps([found[0] | {key: value}, *found[1:]]))
        code, text = imports(path, "det")
        assert code == 1
        assert "theirs.json" in text
    path.write_text(json.dumps([found[0] | {"bbox": [600, 600, 300, 300]}]))
    assert "leaves the prepared image" in imports(path, "det")[1]
