"""Label columns of user tables, paths of other machines, and notes on unused columns."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from g2dbench.data.custom import hf, images, pairs
from g2dbench.data.custom._hf_features import PARTIAL_BOXES
from g2dbench.data.prepare import prepare
from g2dbench.data.tables.labels import is_unlabeled, parse_label
from g2dbench.data.tables.records import Missing, Note
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record


def save_image(path: Path, height: int = 32, width: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width), 90, np.uint8)
    pixels[0, 0] = 0
    Image.fromarray(pixels).save(path)


def make_root(root: Path, table: str, count: int = 3) -> Path:
    for index in range(count):
        save_image(root / f"images/a{index}.png")
    (root / "labels.csv").write_text(table)
    return root


def notes_of(root: Path, options: dict[str, str] | None = None) -> list[str]:
    return [item.text for item in images.read(root, options or {}) if isinstance(item, Note)]


CELLS = {
    "1": 1, "0": 0, "-1": -1, "1.0": 1, "0.00": 0, "-1.0": -1, "1e0": 1, "TRUE": 1, "False": 0,
    "true": 1, "Yes": 1, "NO": 0, "2": None, "0.5": None, "maybe": None, "inf": None,
}  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_labels_are_read_in_every_usual_notation(cell: str) -> None:
    assert parse_label(cell) == CELLS[cell]
    assert not is_unlabeled(cell)


@pytest.mark.parametrize(
    "cell", ["", " ", "nan", "NaN", "NA", "N/A", "#N/A", "<NA>", "null", "NULL", "None"]
)
def test_every_text_for_an_empty_cell_is_unlabeled(tmp_path: Path, cell: str) -> None:
    assert is_unlabeled(cell)
    assert parse_label(cell) is None
    root = make_root(tmp_path, f"path,Edema\nimages/a0.png,1\nimages/a1.png,{cell}\n")
    assert images.describe(root, {}).findings == ("Edema",)
    assert [item.labels for item in images.read(root, {})] == [{"Edema": 1}, None]


def test_booleans_and_missing_values_of_parquet_are_read(tmp_path: Path) -> None:
    root = make_root(tmp_path, "")
    (root / "labels.csv").unlink()
    table = pd.DataFrame({"path": [f"images/a{index}.png" for index in range(3)]})
    table["A"], table["B"] = [True, False, True], pd.array([1, None, 0], "Int64")
    table["C"], table["D"] = [1.0, float("nan"), 0.0], pd.array([True, None, False], "boolean")
    table.to_parquet(root / "labels.parquet")
    assert [item.labels for item in images.read(root, {})] == [
        {"A": 1, "B": 1, "C": 1, "D": 1}, {"A": 0}, {"A": 1, "B": 0, "C": 0, "D": 0},
    ]  # fmt: skip


def test_an_unused_column_is_reported_with_its_first_cell_that_is_not_a_label(
    tmp_path: Path,
) -> None:
    rows = "path,Edema,Grade,Empty\nimages/a0.png,1,1,\nimages/a1.png,0,maybe,NA\n"
    (note,) = notes_of(make_root(tmp_path, rows))
    assert "Grade ('maybe' in line 3 of labels.csv is no label)" in note
    assert "Empty (all its cells are empty)" in note
    assert notes_of(tmp_path, {"findings": "Edema"}) == []


def test_labels_beside_a_class_column_are_reported_with_the_option_to_use_them(
    tmp_path: Path,
) -> None:
    rows = "path,class,Edema,Mass\nimages/a0.png,Flu,1,0\nimages/a1.png,NA,0,1\n"
    root = make_root(tmp_path, rows)
    note, first, second = images.read(root, {})
    assert (first.labels, second.labels) == ({"Flu": 1}, None)
    assert "--option findings=Edema,Mass" in note.text
    first, second = images.read(root, {"findings": "Edema,Mass"})
    assert first.labels == {"Edema": 1, "Mass": 0}


def test_the_summary_names_unused_columns(tmp_path: Path) -> None:
    rows = "path,Edema,Grade\n" + "".join(f"images/a{i}.png,{i % 2},high\n" for i in range(12))
    root = make_root(tmp_path / "root", rows, 12)
    store = prepare(
        "images", root, tmp_path / "store", progress=quiet, registry=Registry(), size=16,
        own_name="mine",
    )  # fmt: skip
    assert "; NOTE: columns of labels.csv that are not used: Grade ('high' in line 2" in (
        store.summary
    )


def test_cells_with_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from g2dbench.cli import app

    rows = "path,Edema,Grade\n" + "".join(f"images/a{i}.png,{i % 2},[/b]\n" for i in range(12))
    root = make_root(tmp_path / "root", rows, 12)
    arguments = [
        "data",
        "prepare",
        "images",
        "--root",
        root,
        "--store",
        tmp_path / "s",
        "--size",
        32,
    ]
    done = CliRunner().invoke(app, [*map(str, arguments), "--name", "mine", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert "Grade ('[/b]'" in " ".join(done.output.split())


# -- paths written on Windows


@pytest.mark.parametrize(
    "cell",
    [r"images\a0.png", "images/a0.PNG", r"C:\data\set\images\a0.png", r".\images\a0.png",
     "/home/other/images/a0.png"],
)  # fmt: skip
@pytest.mark.parametrize("reader", [pairs, images])
def test_images_are_found_from_paths_of_other_machines(tmp_path: Path, reader, cell: str) -> None:
    root = make_root(tmp_path, f"image,text,Edema\n{cell},Clear.,1\n")
    (found,) = (item for item in reader.read(root, {}) if not isinstance(item, Note))
    assert found.path.resolve() == (root / "images/a0.png").resolve()
    assert found.id == cell.replace("\\", "/")
    assert bool(found.notes) == (cell[0] in "/C")


def test_a_name_that_contains_a_backslash_is_found(tmp_path: Path) -> None:
    root = make_root(tmp_path, "image,text\na\\b.png,Clear.\n")
    save_image(root / "a\\b.png")
    (found,) = pairs.read(root, {})
    assert found.path == root / "a\\b.png"


def test_a_path_without_matching_file_is_missing(tmp_path: Path) -> None:
    root = make_root(tmp_path, "image,text\nC:\\x\\b.png,Clear.\n..\\..\\c.png,x\n")
    assert [type(item) for item in pairs.read(root, {})] == [Missing, Missing]


def test_if_all_images_are_missing_the_error_names_one(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root", "image,text\nb\\c.png,Clear.\n")
    with pytest.raises(BadData, match=r"b/c\.png: there is no such file"):
        prepare(
            "pairs", root, tmp_path / "store", progress=quiet, registry=Registry(), own_name="m"
        )


# -- Hugging Face data sets


def test_hf_reads_the_size_of_the_annotated_picture_and_reports_unused_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hf._open.cache_clear()
    save_image(tmp_path / "raw/a.png", 32, 40)
    features = datasets.Features({
        "image": datasets.Image(), "width": datasets.Value("int64"), "Patient Sex":
        datasets.Value("string"), "height": datasets.Value("int64"), "grade":
        datasets.Value("int64"), "objects": datasets.Sequence({
            "bbox": datasets.Sequence(datasets.Value("float32"), 4),
            "category": datasets.ClassLabel(names=["mass"]),
        }),
    })  # fmt: skip
    rows = {"image": [str(tmp_path / "raw/a.png")] * 2, "width": [80] * 2, "height": [64] * 2,
            "grade": [3, 4], "Patient Sex": ["F", None],
            "objects": [{"bbox": [[1, 2, 3, 4]], "category": [0]},
                        {"bbox": [[1, 2, 3, 4]], "category": [-1]}]}  # fmt: skip
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "set")
    note, found, partial = hf.read(tmp_path / "set", {})
    assert note == Note("features that are not used: grade")
    assert isinstance(found, Record)
    assert (found.frame, found.boxes, found.sex) == ((64, 80), (Box("mass", 1, 2, 4, 6),), "F")
    assert isinstance(partial, Record)
    assert (partial.boxes, partial.notes) == (None, (PARTIAL_BOXES,))
