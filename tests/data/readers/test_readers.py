"""Readers: official layouts made by hand, their quirks, broken rows, and the real excerpts."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.cards import DatasetCard
from g2dbench.data.annotations.geometry import Geometry
from g2dbench.data.annotations.masks import BoxMasks, RunMasks, resize
from g2dbench.data.annotations.rle import from_runs as decode_runs
from g2dbench.data.annotations.rle import to_runs as encode
from g2dbench.data.readers import open_i, rsna, siim
from g2dbench.data.store.decode import Frame, decode
from g2dbench.data.tables.csv import read_table
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record


def save_image(path: Path, side: int = 32, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), value, np.uint8)).save(path)


def rsna_root(tmp_path: Path, rows: str, images: str = "abcdefgh") -> Path:
    for name in images:
        save_image(tmp_path / "stage_2_train_images" / f"{name}.png")
    (tmp_path / rsna.LABELS).write_text("patientId,x,y,width,height,Target\n" + rows)
    return tmp_path


def test_every_reader_of_the_package_has_card_and_layout() -> None:
    for card in Registry().cards(DatasetCard):
        module = Registry().find(DatasetCard, card.name).load()
        assert card == module.CARD
        assert card.embedded or (card.layout and callable(module.read))


# -- RSNA


def test_rsna_rows_of_one_patient_are_one_record(tmp_path: Path) -> None:
    root = rsna_root(tmp_path, "a,10,20,30,40,1\nb,,,,,0\na,100,200,50.5,60,1\n")
    first, second = rsna.read(root)
    assert isinstance(first, Record)
    assert first.boxes == (
        Box("Pneumonia", 10, 20, 40, 60),
        Box("Pneumonia", 100, 200, 150.5, 260),
    )
    assert (first.labels, first.frame) == ({"Pneumonia": 1}, (1024, 1024))
    assert first.masks["Pneumonia"].sum() == 30 * 40 + 50 * 60
    assert isinstance(second, Record)
    assert (second.labels, second.boxes, len(second.masks)) == ({"Pneumonia": 0}, (), 0)


def test_rsna_missing_images_are_told_apart_from_broken_rows(tmp_path: Path) -> None:
    rows = "a,1,2,nan,4,1\nb,1,2,x,4,1\nc,,,,,2\nd,,,,,0\nd,1,2,3,4,1\nz,,,,,0\ne,,,,,1\n"
    found = list(rsna.read(rsna_root(tmp_path, rows)))
    assert [type(item) for item in found] == [Record, *[Rejected] * 3, Missing, Record]
    assert [(item.labels, item.boxes, item.masks) for item in (found[0], found[5])] == [
        ({"Pneumonia": 1}, None, None)
    ] * 2
    assert "line 3 of stage_2_train_labels.csv: width is 'x'" in found[1].reason
    assert "Target must be 0 or 1" in found[2].reason


def test_rsna_class_table_is_deduplicated_and_checked(tmp_path: Path) -> None:
    root = rsna_root(tmp_path, "a,1,2,3,4,1\na,1,2,3,4,1\nb,,,,,0\n")
    classes = "patientId,class\na,Lung Opacity\na,Lung Opacity\nb,Lung Opacity\n"
    (root / rsna.CLASSES).write_text(classes)
    found = list(rsna.read(root))
    assert isinstance(found[0], Record)
    assert "contradicts the class" in found[1].reason


def test_rsna_prefers_dicom_and_takes_images_folders(tmp_path: Path, real_data: Path) -> None:
    source = next((real_data / "real/dicom").glob("1.2*.dcm"))
    root = rsna_root(tmp_path, "a,,,,,0\nq,,,,,0\n")
    shutil.copy(source, root / "stage_2_train_images/a.dcm")
    save_image(root / "images/q.jpg")
    first, second = rsna.read(root)
    assert (first.path.suffix, first.sex, first.age, first.view) == (".dcm", "M", 62, "PA")
    assert second.path == root / "images/q.jpg"


def test_rsna_excerpt_has_its_official_boxes_in_stored_pixels(real_data: Path) -> None:
    root = real_data / "real/rsna_pneumonia_from_nih"
    found = list(rsna.read(root))
    assert Counter(type(item) for item in found) == {Record: 120}
    assert sum(item.labels["Pneumonia"] for item in found) == 60
    assert sum(item.path.suffix == ".dcm" for item in found) == 12
    frame = Frame(root, tuple(trusted_roots(root)), 512)
    one = next(item for item in found if item.id.startswith("06893030"))
    row = decode(one, frame)
    assert row["boxes"].startswith('[["Pneumonia",317.0,157.0,427.0,311.5]')
    assert (row["height"], row["width"]) == (512, 512)


# -- SIIM


def siim_root(tmp_path: Path, real_data: Path, rows: str, images: str = "abcdef") -> Path:
    source = next((real_data / "real/dicom").glob("1.2*.dcm"))
    for name in images:
        folder = tmp_path / "dicom-images-train" / f"1.{name}" / f"2.{name}"
        folder.mkdir(parents=True)
        shutil.copy(source, folder / f"{name}.dcm")
    (tmp_path / siim.TABLE).write_text("ImageId, EncodedPixels\n" + rows)
    return tmp_path


def test_siim_header_and_negatives_with_spaces_are_read(tmp_path: Path, real_data: Path) -> None:
    root = siim_root(tmp_path, real_data, "a,-1\nb, -1\nc, 1024 2 1022 2\n")
    found = list(siim.read(root))
    assert [item.labels["Pneumothorax"] for item in found] == [0, 0, 1]
    assert [len(item.masks) for item in found] == [0, 0, 1]
    assert found[2].sex == "M"


def test_siim_gaps_count_from_the_last_run_and_go_down_the_columns(
    tmp_path: Path, real_data: Path
) -> None:
    root = siim_root(tmp_path, real_data, "a,3 2 1022 1\na,0 1\n")
    (found,) = siim.read(root)
    rows, columns = np.nonzero(found.masks["Pneumothorax"])
    # 3 pixels down the first column, two set; 1022 on, one set: 3 + 2 + 1022 = 1027 = (3, 1).
    assert sorted(zip(columns.tolist(), rows.tolist(), strict=True)) == [
        (0, 0), (0, 3), (0, 4), (1, 3),
    ]  # fmt: skip


def test_siim_official_rows_agree_with_the_published_decoder(real_data: Path) -> None:
    table = read_table(real_data / "official_rows/SIIM/train-rle.csv", ("ImageId", "EncodedPixels"))
    codes = [code for code in table["EncodedPixels"] if code != "-1"]
    assert codes
    for code in codes:
        flat, at = np.zeros(1024 * 1024, bool), 0
        numbers = [int(part) for part in code.split()]
        for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
            at += gap
            flat[at : at + length] = True
            at += length
        mask = RunMasks({"x": [siim.parse_runs(code, "here")]}, siim.FRAME)["x"]
        np.testing.assert_array_equal(mask, flat.reshape(1024, 1024).T)


def test_siim_broken_codes_are_rejected_with_their_line(tmp_path: Path, real_data: Path) -> None:
    rows = "a,1 2 3\nb,\nc,x y\nd,1048576 1\ne,5 5\ne,-1\nz,-1\n"
    found = list(siim.read(siim_root(tmp_path, real_data, rows)))
    assert [type(item) for item in found] == [Rejected] * 5 + [Missing]
    assert "line 2 of train-rle.csv" in found[0].reason
    assert "1024 x 1024" in found[3].reason


# -- Open-i


def open_i_root(tmp_path: Path, reports: str, projections: str) -> Path:
    header = "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
    (tmp_path / open_i.REPORTS).write_text(header + reports)
    (tmp_path / open_i.PROJECTIONS).write_text("uid,filename,projection\n" + projections)
    return tmp_path


def test_open_i_joins_images_reports_and_problems(tmp_path: Path) -> None:
    reports = '7,normal,normal,x,,,"Clear, XXXX.",No disease.\n8,a,Cardiomegaly;Opacity,x,,,,Big.\n'
    projections = "7,7_IM-1.dcm.png,Frontal\n7,7_IM-2.dcm.png,Lateral\n8,8_IM-1.dcm.png,Frontal\n"
    root = open_i_root(tmp_path, reports, projections + "9,9_IM-1.dcm.png,Frontal\n")
    for name in ("7_IM-1", "7_IM-2", "9_IM-1"):
        save_image(root / f"images/images_normalized/{name}.dcm.png")
    save_image(root / "images/8_IM-1.dcm.png")
    front, side, other, orphan = open_i.read(root)
    assert (front.id, front.patient, front.view, side.view) == ("7_IM-1", "7", "Frontal", "Lateral")
    assert front.report == "Findings: Clear, XXXX. Impression: No disease."
    assert front.labels["Normal"] == 1
    assert sum(front.labels.values()) == 1
    assert other.report == "Impression: Big."
    assert {name for name, value in other.labels.items() if value} == {
        "Cardiomegaly", "Lung Opacity",
    }  # fmt: skip
    assert "no uid '9'" in orphan.reason


def test_open_i_studies_that_nobody_indexed_have_no_labels() -> None:
    assert open_i.parse_problems("No Indexing") is None
    assert open_i.parse_problems("") is None
    assert open_i.parse_problems("Osteophyte;Thickening")["Normal"] == 0


def test_open_i_real_corpus(real_data: Path) -> None:
    found = list(open_i.read(real_data / "open_i"))
    assert Counter(item.view for item in found) == {"Frontal": 2666, "Lateral": 93}
    assert all(item.report for item in found)
    assert sum(item.labels is not None and item.labels["Normal"] for item in found) > 900


# -- all


@pytest.mark.parametrize(
    ("reader", "table"),
    [(rsna, rsna.LABELS), (siim, siim.TABLE), (open_i, open_i.PROJECTIONS)],
)
def test_missing_folders_tables_and_columns_are_named(tmp_path: Path, reader, table: str) -> None:
    with pytest.raises(BadData, match="there is no folder"):
        list(reader.read(tmp_path / "nowhere"))
    (tmp_path / "else.txt").touch()
    with pytest.raises(BadData, match=r"no table .*else\.txt"):
        list(reader.read(tmp_path))
    if reader is open_i:
        open_i_root(tmp_path, "", "")
    (tmp_path / table).write_text("one,two\n1,2\n")
    with pytest.raises(BadData, match=f"{table} lacks the columns .*found: one, two"):
        list(reader.read(tmp_path))


@pytest.mark.parametrize("reader", [rsna, open_i])
def test_a_missing_image_folder_is_named(tmp_path: Path, reader) -> None:
    rsna_root(tmp_path, "a,,,,,0\n", images="")
    open_i_root(tmp_path, "", "")
    with pytest.raises(BadData, match="holds no image folder"):
        list(reader.read(tmp_path))


def test_tables_are_read_packed_with_marks_and_stripped(tmp_path: Path) -> None:
    import gzip

    text = "\ufeff a , b\n 1 , x \n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    table = read_table(tmp_path / "t.csv", ("a", "b"))
    assert table.to_dict("records") == [{"a": "1", "b": "x", "line": 2}]


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2,3,4\n1,2\n", b"\xff\xfe\x00", b'a,b\n"1,2\n'])
def test_broken_tables_are_bad_data(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(BadData, match=r"t\.csv"):
        read_table(tmp_path / "t.csv", ("a", "b"))


@pytest.mark.parametrize("name", ["../outside.png", "images/../../outside.png", "link.png"])
def test_files_outside_the_root_are_rejected(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    save_image(tmp_path / "outside.png")
    save_image(root / "images/inside.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    frame = Frame(root, tuple(trusted_roots(root)), 64)
    row = decode(Record(id="a", path=root / name, patient="a"), frame)
    assert isinstance(row, Rejected)
    assert "outside" in row.reason


def test_a_folder_that_its_owner_linked_into_the_root_is_trusted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    save_image(tmp_path / "disk/a.png")
    (root / "images").symlink_to(tmp_path / "disk")
    frame = Frame(root, tuple(trusted_roots(root)), 64)
    row = decode(Record(id="a", path=root / "images/a.png", patient="a"), frame)
    assert row["source"] == "images/a.png"


BAD_RECORDS = [
    {"boxes": (Box("x", float("nan"), 0, 1, 1),)},
    {"boxes": (Box("x", 5, 5, 4, 9),)},
    {"boxes": (Box("x", 5, 5, 5, 9),)},
    {"boxes": (Box("x", 0, 0, 40, 10),)},
    {"boxes": (Box("x", -3, 0, 4, 10),)},
    {"labels": {"x": 2}},
    {"split": "dev"},
    {"age": float("inf")},
    {"patient": ""},
    {"masks": {"x": np.zeros((3, 3), bool)}},
]


@pytest.mark.parametrize("fields", BAD_RECORDS)
def test_impossible_records_are_rejected_with_a_reason(tmp_path: Path, fields: dict) -> None:
    save_image(tmp_path / "a.png")
    record = Record(**{"id": "a", "path": tmp_path / "a.png", "patient": "p", **fields})
    row = decode(record, Frame(tmp_path, (tmp_path.resolve(),), 64))
    assert isinstance(row, Rejected)
    assert row.reason


def test_boxes_are_scaled_and_clipped_by_rounding_only() -> None:
    way = Geometry((1024, 1024), (0, 0, 1024, 1024), (256, 512))
    assert way.box(Box("x", -0.5, 0, 1024.5, 512), (1024, 1024)) == Box("x", 0, 0, 512, 128)


def test_runs_agree_with_pycocotools() -> None:
    from pycocotools import mask as coco

    generator = np.random.default_rng(0)
    shapes = [(1, 1), (7, 5), (64, 48)]
    masks = [generator.random(shape) > 0.6 for shape in shapes]
    masks += [np.zeros((5, 4), bool), np.ones((5, 4), bool)]
    for mask in masks:
        runs = encode(mask)
        height, width = mask.shape
        packed = coco.frPyObjects({"counts": runs, "size": [height, width]}, height, width)
        np.testing.assert_array_equal(coco.decode(packed).astype(bool), mask)
        np.testing.assert_array_equal(decode_runs(runs, height, width), mask)


def test_runs_that_leave_the_image_are_bad_data() -> None:
    for runs in ([10, 7], [-1, 3]):
        with pytest.raises(BadData):
            decode_runs(runs, 4, 4)


def test_a_mask_smaller_than_a_pixel_survives_reducing() -> None:
    mask = np.zeros((64, 64), bool)
    mask[10, 20] = True
    small = resize(mask, 8, 8)
    assert small.sum() == 1
    assert small[1, 2]
    assert not resize(np.zeros((64, 64), bool), 8, 8).any()
    np.testing.assert_array_equal(resize(np.kron(np.eye(4), np.ones((8, 8))) > 0, 4, 4), np.eye(4))


def test_box_masks_cover_the_pixels_whose_centre_they_hold() -> None:
    masks = BoxMasks((Box("a", 1, 0, 3, 1), Box("a", 3.5, 2.5, 5, 4), Box("b", 0, 0, 9, 9)), (4, 6))
    expected = np.zeros((4, 6), bool)
    expected[0, 1:3] = True
    expected[2:4, 3:5] = True
    np.testing.assert_array_equal(masks["a"], expected)
    assert list(masks) == ["a", "b"]
    assert masks["b"].all()
