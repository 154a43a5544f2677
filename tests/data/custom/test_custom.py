"""Readers of one's own data: pairs, images, hf; options, own names, and what they refuse."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from g2dbench.data.custom import _table, hf, images, pairs
from g2dbench.data.custom._splits import OwnSplits
from g2dbench.data.prepare import find, prepare, prepared
from g2dbench.data.tables.records import Missing, Note, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record

REGISTRY = Registry()


def save_image(path: Path, value: int = 100, size: tuple[int, int] = (40, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0]), value, np.uint8)
    pixels[0, 0] = 0
    Image.fromarray(pixels).save(path)


def pairs_root(root: Path, table: str, count: int = 6) -> Path:
    for index in range(count):
        save_image(root / f"img/{index}.png", 50 + index)
    (root / "mine.csv").write_text(table)
    return root


# -- pairs


def test_pairs_know_usual_columns_in_any_case(tmp_path: Path) -> None:
    rows = (
        "Path,Report,Patient_ID,Gender,Age,extra\nimg/0.png,Clear.,p,F,50,x\nimg/1.png,,p,M,50+,\n"
    )
    root = pairs_root(tmp_path, rows)
    told, first, second = pairs.read(root, {})
    assert told.text == "columns of mine.csv that are not used: extra"
    assert (first.id, first.report, first.patient, first.sex, first.age) == (
        "img/0.png", "Clear.", "p", "F", 50.0,
    )  # fmt: skip
    assert (second.report, second.age) == (None, None)
    told = pairs.describe(root, {}).summary
    assert "image=Path, text=Report, patient=Patient_ID, sex=Gender, age=Age" in told


def test_pairs_take_columns_by_option_and_parquet_with_numbers(tmp_path: Path) -> None:
    pairs_root(tmp_path, "a\n1\n")
    table = pd.DataFrame({"where": ["img/0.png", "img/1.png"], "says": ["A b.", None]})
    table["subject_id"] = [10000032.0, None]
    table.to_parquet(tmp_path / "mine.parquet")
    asked = {"table": "mine.parquet", "image": "where", "text": "says"}
    first, second = pairs.read(tmp_path, asked)
    assert (first.report, first.patient) == ("A b.", "10000032")
    assert (second.report, second.patient) == (None, "img/1.png")


def test_pairs_ask_for_what_they_cannot_know(tmp_path: Path) -> None:
    root = pairs_root(tmp_path, "where,says\nimg/0.png,x\n")
    with pytest.raises(Misuse, match="--option image=COLUMN"):
        pairs.describe(root, {})
    with pytest.raises(Misuse, match="has only where, says"):
        pairs.describe(root, {"image": "wo"})
    (root / "other.tsv").write_text("a\tb\n")
    with pytest.raises(Misuse, match=r"mine\.csv, other\.tsv: say --option table=FILE"):
        pairs.describe(root, {})
    with pytest.raises(BadData, match="there is no table"):
        pairs.describe(root, {"table": "none.csv"})
    with pytest.raises(BadData, match="there is no folder"):
        pairs.describe(root / "nowhere", {})


def test_pairs_tell_broken_rows_by_line(tmp_path: Path) -> None:
    rows = "image,text,split\n,x,\nnone.png,x,\nimg/0.png,x,third\n" + "a" * 300 + ".png,x,\n"
    found = list(pairs.read(pairs_root(tmp_path, rows), {}))
    assert [type(item) for item in found] == [Rejected, Missing, Rejected, Missing]
    assert found[0].reason == "line 2 of mine.csv: no image"
    assert "line 4 of mine.csv: the split 'third'" in found[2].reason


@pytest.mark.parametrize("content", [b"", b"image,text\n1,2,3,4\n", b"\xff\xfe\x00\xff", b'a,"b\n'])
def test_broken_own_tables_are_bad_data(tmp_path: Path, content: bytes) -> None:
    for name in ("t.csv", "t.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises((BadData, Misuse), match=rf"t\.{name[2:]}"):
            _table.open_table(tmp_path, {"table": name}, ("image",))


def test_paths_of_pairs_do_not_leave_the_root(tmp_path: Path) -> None:
    save_image(tmp_path / "secret.png")
    inside = "".join(f"img/{i}.png,Text here.\n" for i in range(40))
    root = pairs_root(tmp_path / "root", "image,text\n" + inside + "../secret.png,x\n", 40)
    store = prepare(
        "pairs", root, tmp_path / "store", progress=quiet, registry=REGISTRY, size=16,
        own_name="mine",
    )  # fmt: skip
    assert len(store) == 40
    assert "outside" in (store.folder / "quarantine.csv").read_text()


# -- names and options of a request


def test_own_data_is_prepared_and_found_under_its_own_name(tmp_path: Path) -> None:
    root = pairs_root(tmp_path / "root", "image,text,caption\n" + "".join(
        f"img/{i}.png,Text {i} here.,Other {i} words.\n" for i in range(6)
    ))  # fmt: skip
    ask = {"progress": quiet, "registry": REGISTRY, "size": 16, "own_name": "my_set"}
    store = prepare("pairs", root, tmp_path / "store", **ask)
    assert (store.card.name, store.card.offers) == ("my_set", ("reports",))
    assert "No column names the patient" in store.card.summary
    again = prepared("my_set", None, tmp_path / "store", registry=REGISTRY)
    assert again.fingerprint == store.fingerprint
    assert find("my_set", root, tmp_path / "store").folder == store.folder
    assert find("my_set", tmp_path, tmp_path / "store") is None
    other = prepare("pairs", root, tmp_path / "store", options={"text": "caption"}, **ask)
    assert other.folder != store.folder
    assert {sample.report[:5] for sample in other} == {"Other"}
    assert 'with {"text": "caption"}' in other.manifest.origin
    with pytest.raises(Misuse, match="more than once"):
        prepared("my_set", root, tmp_path / "store", registry=REGISTRY)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("pairs", {}, "needs a name"),
        ("pairs", {"own_name": "a/b"}, "letters, digits"),
        ("pairs", {"own_name": "rsna"}, "taken by a data set"),
        ("pairs", {"own_name": "x", "options": {"imag": "a"}}, "did you mean 'image'"),
        ("rsna", {"own_name": "x"}, "has its name"),
        ("rsna", {"options": {"image": "x"}}, "there is no option of 'rsna'"),
    ],
)
def test_impossible_requests_are_misuse(tmp_path: Path, name: str, words: dict, said: str) -> None:
    with pytest.raises(Misuse, match=said):
        prepare(name, tmp_path, tmp_path / "s", progress=quiet, registry=REGISTRY, **words)


def test_own_splits_are_completed() -> None:
    names = [f"p{index}" for index in range(400)]
    two = OwnSplits(["training", "test"])
    counts = Counter(two.of("Training", name) for name in names)
    assert set(counts) == {"train", "valid"}
    assert 50 < counts["valid"] < 110
    assert {two.of("test", name) for name in names} == {"test"}
    assert [two.of("train", name) for name in names] == [two.of("train", name) for name in names]
    assert OwnSplits(["train"]).of("train", "p") is None
    assert OwnSplits(["train", "dev", "test"]).of("dev", "p") == "valid"


# -- images


def images_root(root: Path, table: str | None = None) -> Path:
    for index in range(4):
        save_image(root / f"images/a.{index}.png")
    if table is not None:
        (root / "labels.csv").write_text(table)
    return root


def test_images_find_label_columns_and_leave_others(tmp_path: Path) -> None:
    rows = (
        "file,Edema,Nodule,week,sex\na.0,1,0,3,M\na.1.png,,-1,4,F\nimages/a.2.png,,,5,\nq,1,1,1,\n"
    )
    root = images_root(tmp_path, rows)
    card = images.describe(root, {})
    assert (card.offers, card.findings) == (("labels",), ("Edema", "Nodule"))
    told, *found = images.read(root, {})
    assert "week ('3' in line 2 of labels.csv is no label)" in told.text
    assert [getattr(item, "labels", "") for item in found] == [
        {"Edema": 1, "Nodule": 0}, {"Nodule": -1}, None, "",
    ]  # fmt: skip
    assert [item.path.name for item in found[:3]] == ["a.0.png", "a.1.png", "a.2.png"]
    assert isinstance(found[3], Missing)
    assert images.describe(root, {"findings": "Nodule"}).findings == ("Nodule",)
    with pytest.raises(Misuse, match="no columns Mass"):
        images.describe(root, {"findings": "Nodule,Mass"})


def test_images_read_a_column_of_class_names(tmp_path: Path) -> None:
    root = images_root(tmp_path, "image,class\na.0,Flu|Cold\na.1,Cold\na.2,\n")
    first, second, third = images.read(root, {})
    assert first.labels == {"Cold": 1, "Flu": 1}
    assert second.labels == {"Cold": 1, "Flu": 0}
    assert third.labels is None


def test_images_reject_broken_labels_and_ambiguous_names(tmp_path: Path) -> None:
    root = images_root(tmp_path, "image,x\na.0,1\na.1,2\na.3,1\n")
    save_image(root / "more/a.3.png")
    good, label, twice = images.read(root, {"findings": "x"})
    assert isinstance(good, Record)
    assert label.reason == "line 3 of labels.csv: the label of 'x' is '2', not 1, 0 or -1"
    assert "2 files are called 'a.3'" in twice.reason


def coco_file(root: Path, annotations: list[dict], **image: object) -> None:
    names = [{"id": 7, "name": "Nodule"}, {"id": 9, "name": "Mass"}]
    shown = [
        {"id": index, "file_name": f"images/a.{index}.png", "height": 32, "width": 40, **image}
        for index in range(4)
    ]
    content = {"images": shown, "annotations": annotations, "categories": names}
    (root / "coco.json").write_text(json.dumps(content))


def test_images_read_coco_boxes_and_masks_like_pycocotools(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    root = images_root(tmp_path)
    polygon = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]
    runs = {"counts": [5, 10, 1265], "size": [32, 40]}
    coco_file(root, [
        {"image_id": 0, "category_id": 7, "bbox": [4, 4, 16, 16], "segmentation": polygon},
        {"image_id": 0, "category_id": 9, "bbox": [0, 5, 1, 10], "segmentation": runs},
    ])  # fmt: skip
    card = images.describe(root, {})
    assert (card.offers, card.findings) == (("boxes", "masks"), ("Nodule", "Mass"))
    first, second, *_ = images.read(root, {})
    assert first.boxes == (Box("Nodule", 4, 4, 20, 20), Box("Mass", 0, 5, 1, 15))
    expected = coco.decode(coco.frPyObjects(polygon, 32, 40))[:, :, 0]
    np.testing.assert_array_equal(first.masks["Nodule"], expected)
    np.testing.assert_array_equal(first.masks["Mass"], coco.decode(coco.frPyObjects(runs, 32, 40)))
    assert (second.boxes, dict(second.masks)) == ((), {})


BAD_ANNOTATIONS = [
    {"image_id": 0, "category_id": 1, "bbox": [1, 1, 2, 2]},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2]},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, "x", 2]},
]
BAD_OUTLINES = [
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2], "segmentation": [[1, 2]]},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2],
     "segmentation": {"counts": "abc", "size": [32, 40]}},
    {"image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2],
     "segmentation": {"counts": [1], "size": [9, 9]}},
]  # fmt: skip


@pytest.mark.parametrize("annotation", BAD_ANNOTATIONS)
def test_one_broken_annotation_costs_one_image(tmp_path: Path, annotation: dict) -> None:
    root = images_root(tmp_path)
    coco_file(root, [annotation])
    first, *others = images.read(root, {})
    assert isinstance(first, Rejected)
    assert "coco.json, images/a.0.png: " in first.reason
    assert [type(other) for other in others] == [Record] * 3


@pytest.mark.parametrize("annotation", BAD_OUTLINES)
def test_a_broken_outline_costs_the_masks_of_its_image(tmp_path: Path, annotation: dict) -> None:
    root = images_root(tmp_path)
    coco_file(root, [annotation])
    first, second, *_ = images.read(root, {})
    assert (first.boxes, first.masks) == ((Box("Nodule", 1, 1, 3, 3),), None)
    assert first.notes[0].endswith("so that the image's masks are not known")
    assert (second.boxes, dict(second.masks), second.notes) == ((), {}, ())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": [1], "annotations": [], "categories": []}', "[" * 100_000]
)
def test_files_that_are_not_coco_are_named(tmp_path: Path, text: str) -> None:
    root = images_root(tmp_path)
    (root / "coco.json").write_text(text)
    with pytest.raises(BadData, match=r"coco\.json"):
        list(images.read(root, {}))


def test_images_read_mask_folders(tmp_path: Path) -> None:
    root = images_root(tmp_path, "image\na.0\na.1\na.2\n")
    for name, value in (("left/a.0", 255), ("right/a.0", 1), ("left/a.1", 7)):
        save_image(root / f"masks/{name}.png", value)
    card = images.describe(root, {})
    assert (card.offers, card.findings) == (("masks",), ("left", "right"))
    first, second, third = images.read(root, {})
    assert [first.masks[side].sum() for side in ("left", "right")] == [40 * 32 - 1] * 2
    assert third.masks is None
    with pytest.raises(BadData, match="not black and white"):
        second.masks["left"]


def test_masks_that_leave_the_root_are_refused(tmp_path: Path) -> None:
    root = images_root(tmp_path / "root", "image\na.0\n")
    save_image(tmp_path / "secret.png", 255)
    (root / "masks").mkdir()
    (root / "masks/a.0.png").symlink_to(tmp_path / "secret.png")
    (found,) = images.read(root, {})
    with pytest.raises(BadData, match="outside"):
        found.masks["Foreground"]


def test_images_on_real_excerpts(real_data: Path) -> None:
    """Actualmed, Figure1 and the COVID segmentation set, none of which has a reader."""
    root = real_data / "real/actualmed_covid"
    found = list(images.read(root, {"table": "metadata.csv"}))
    assert Counter(type(item) for item in found) == {Record: 44, Note: 1}
    assert set(found[1].labels) == {"COVID-19", "No finding"}
    root = real_data / "real/figure1_covid"
    asked = {"table": "metadata.csv", "image": "patientid", "text": "notes"}
    found = list(images.read(root, asked))
    assert Counter(type(item) for item in found) == {Record: 55, Note: 1}
    assert sum(item.labels is not None and item.labels["COVID-19"] for item in found[1:]) == 35
    root = real_data / "real/covid_cxr_segmentation"
    found = list(images.read(root, {"table": "manifest.csv", "text": "report"}))
    assert Counter(type(item) for item in found) == {Record: 44, Note: 1}
    assert all(item.masks["left_lung"].any() for item in found[1:] if "left_lung" in item.masks)


# -- hf


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")
    hf._open.cache_clear()
    return tmp_path


def hf_root(root: Path) -> Path:
    import datasets

    for index in range(6):
        save_image(root.parent / f"raw/{index}.png", 60 + index)
    rows = {
        "image": [str(root.parent / f"raw/{index}.png") for index in range(6)],
        "report": [f"Report {index}." for index in range(6)],
        "label": [0, 1, 1, 0, -1, 1],
        "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [0]}] * 5
        + [{"bbox": [], "category": []}],
    }
    features = datasets.Features({
        "image": datasets.Image(),
        "report": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["clear", "ill"]),
        "objects": {
            "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
            "category": datasets.List(datasets.ClassLabel(names=["nodule"])),
        },
    })  # fmt: skip
    made = datasets.Dataset.from_dict(rows, features=features)
    parts = {"train": made.select(range(4)), "test": made.select(range(4, 6))}
    datasets.DatasetDict(parts).save_to_disk(str(root))
    return root


def test_hf_finds_features_by_type(hub_cache: Path) -> None:
    root = hf_root(hub_cache / "saved")
    card = hf.describe(root, {})
    assert card.offers == ("reports", "labels", "boxes")
    assert card.findings == ("clear", "ill", "nodule")
    found = list(hf.read(root, {}))
    assert [item.id for item in found[:2]] == ["train/000000000", "train/000000001"]
    assert [item.labels for item in found[3:5]] == [{"clear": 1, "ill": 0}, None]
    assert found[0].boxes == (Box("nodule", 1, 2, 4, 6),)
    assert found[5].boxes == ()
    assert {item.split for item in found[4:]} == {"test"}
    assert found[2].report == "Report 2."


def test_hf_is_prepared_by_several_processes(hub_cache: Path) -> None:
    root = hf_root(hub_cache / "saved")
    ask = {"progress": quiet, "registry": REGISTRY, "size": 16, "own_name": "mine"}
    alone = prepare("hf", root, hub_cache / "one", **ask)
    shared = prepare("hf", root, hub_cache / "two", workers=1, **ask)
    assert len(alone) == 6
    assert alone.fingerprint == shared.fingerprint
    assert alone[0].image.max() in range(55, 66)


def test_hf_reads_webdataset_and_class_folders(hub_cache: Path) -> None:
    import tarfile

    for index in range(3):
        save_image(hub_cache / f"raw/p{index}.png", 80)
        (hub_cache / f"raw/p{index}.txt").write_text(f"Text {index}.")
    root = hub_cache / "shards"
    root.mkdir()
    with tarfile.open(root / "train-0000.tar", "w") as tar:
        for path in sorted((hub_cache / "raw").iterdir()):
            tar.add(path, path.name)
    assert [(item.id, item.report) for item in hf.read(root, {})] == [
        ("p0", "Text 0."), ("p1", "Text 1."), ("p2", "Text 2."),
    ]  # fmt: skip
    for name in ("cat/a", "dog/b"):
        save_image(hub_cache / f"folder/{name}.png")
    found = list(hf.read(hub_cache / "folder", {}))
    assert [item.labels for item in found] == [{"cat": 1, "dog": 0}, {"cat": 0, "dog": 1}]
    assert all(item.data.read()[:4] == b"\x89PNG" for item in found)


def test_hf_never_reads_files_outside(hub_cache: Path) -> None:
    save_image(hub_cache / "secret.png")
    root = hub_cache / "evil"
    root.mkdir()
    rows = {"image": [{"bytes": None, "path": str(hub_cache / "secret.png")}]}
    pd.DataFrame(rows).to_parquet(root / "train.parquet")
    (found,) = hf.read(root, {"image": "image"})
    with pytest.raises(BadData, match="outside the data set"):
        found.data.read()


def test_hf_says_what_it_cannot_know_or_open(hub_cache: Path, monkeypatch) -> None:
    root = hf_root(hub_cache / "saved")
    with pytest.raises(Misuse, match="the features are image, report"):
        hf.describe(root, {"text": "txt"})
    with pytest.raises(Misuse, match="no ClassLabel"):
        hf.describe(root, {"label": "report"})
    with pytest.raises(BadData, match="without a network"):
        hf.describe(Path("nobody/nothing"), {})
    (hub_cache / "empty").mkdir()
    with pytest.raises(BadData, match="cannot read the folder"):
        hf.describe(hub_cache / "empty", {})
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    hf._open.cache_clear()
    with pytest.raises(Misuse, match=r"pip install \"g2dbench\[hf\]\""):
        hf.describe(root, {})
