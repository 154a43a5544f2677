"""Official layouts made by hand, header for header, trap by trap; and their real excerpts."""

import csv
import json
import shutil
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from g2dbench.data.annotations.mask_files import read_mask
from g2dbench.data.annotations.masks import BoxMasks
from g2dbench.data.annotations.rle import to_runs as encode
from g2dbench.data.annotations.shapes import Ellipse, Polygon, Rectangle, ShapeMasks
from g2dbench.data.prepare import prepare
from g2dbench.data.readers import (
    covidx,
    fundus,
    object_cxr,
    open_i,
    siim,
    tbx11k,
    vinbigdata,
    vindr,
)
from g2dbench.data.readers.open_i import nlm as open_i_nlm
from g2dbench.data.readers.vindr.consensus import fuse, majority
from g2dbench.data.store.decode import Frame, decode, load
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record


def save_image(path: Path, size: tuple[int, int] = (32, 32), value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(path)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def official_header(real_data: Path, name: str) -> str:
    return (real_data / "official_rows" / name).read_text().splitlines()[0]


# -- COVIDx


def covidx_root(root: Path, lists: dict[str, list[str]]) -> Path:
    for name, lines in lists.items():
        write(root / f"{name}.txt", *lines)
        for line in lines:
            file = next(word for word in line.split() if word.endswith(("png", "jpg", "jpeg")))
            save_image(root / name.split("_")[0] / file)
    return root


def test_covidx_lines_of_three_and_four_fields_and_dotted_names(tmp_path: Path) -> None:
    root = covidx_root(tmp_path, {
        "train_COVIDx5": ["3 SARS-10.1148rg.24-Fig8a-day0.jpeg pneumonia cohen",
                          "P1 CR.1.2.840.1.png COVID-19 actmed", "P2 CR.1.2.840.2.png normal"],
        "test_COVIDx5": ["47c7 47c7.png normal", "x x.png COVID-19 rsna"],
    })  # fmt: skip
    found = list(covidx.read(root, {}))
    assert [item.id for item in found] == [
        "SARS-10.1148rg.24-Fig8a-day0.jpeg", "CR.1.2.840.1.png", "CR.1.2.840.2.png", "47c7.png",
        "x.png",
    ]  # fmt: skip
    assert [[f for f, value in item.labels.items() if value] for item in found] == [
        ["Pneumonia"], ["COVID-19"], ["Normal"], ["Normal"], ["COVID-19"],
    ]  # fmt: skip
    assert [item.split for item in found] == [None, None, None, "test", "test"]
    assert found[0].patient == "3"


def test_covidx_patients_may_be_two_words(tmp_path: Path) -> None:
    """Release 8A writes some so; 9A joins them."""
    lists = {"train_8A": ["COVID 1 COVID(1).png COVID-19 sirm"], "test_8A": ["a a.png normal"]}
    first, _ = covidx.read(covidx_root(tmp_path, lists), {})
    assert (first.id, first.patient) == ("COVID(1).png", "COVID 1")


def test_covidx_with_validation_list_keeps_all_three_splits(tmp_path: Path) -> None:
    lists = {"train": ["a a.png positive bimcv"], "val": ["b b.png negative bimcv"],
             "test": ["c c.png negative bimcv"]}  # fmt: skip
    found = list(covidx.read(covidx_root(tmp_path, lists), {}))
    assert [item.split for item in found] == ["train", "valid", "test"]
    assert [item.labels for item in found] == [{"COVID-19": 1}, {"COVID-19": 0}, {"COVID-19": 0}]


def test_covidx_tells_broken_lines_and_asks_which_lists(tmp_path: Path) -> None:
    root = covidx_root(tmp_path, {"train_A": ["a a.png normal x"], "test_A": ["b b.png normal x"]})
    write(
        root / "train_A.txt", "a a.png normal x", "", "oops", "c c.png flu x y z", "d d.png normal"
    )
    found = list(covidx.read(root, {}))
    assert [type(item) for item in found] == [Record, Rejected, Rejected, Missing, Record]
    assert "line 3 of train_A.txt: 'oops' is no" in found[1].reason
    shutil.copy(root / "train_A.txt", root / "train_B.txt")
    shutil.copy(root / "test_A.txt", root / "test_B.txt")
    with pytest.raises(Misuse, match="lists of A, B: choose with --option lists=NAME"):
        list(covidx.read(root, {}))
    assert len(list(covidx.read(root, {"lists": "B"}))) == 5
    (tmp_path / "none").mkdir()
    with pytest.raises(BadData, match=r"no lists train\.txt"):
        list(covidx.read(tmp_path / "none", {}))


def test_covidx_official_lines_are_understood(real_data: Path) -> None:
    """Every official line: the class is what COVID-Net's own three-column split gives."""
    for path in sorted((real_data / "official_rows/COVIDx").glob("*.txt")):
        for line in path.read_text().splitlines():
            patient, name, label = covidx._parse(line, "here")
            assert [patient, name, label] == line.split()[:3]


def test_covidx_excerpt(real_data: Path) -> None:
    root = real_data / "real/covidx_mini"
    found = list(covidx.read(root, {"lists": "COVIDx9A"}))
    assert Counter(item.split for item in found) == {None: 78, "test": 16}
    binary = {item.id: item.labels["COVID-19"] for item in covidx.read(root, {"lists": "COVIDx9B"})}
    assert {item.id: item.labels["COVID-19"] for item in found} == binary


# -- shapes and Object-CXR


def by_hand(corners: tuple, height: int, width: int) -> np.ndarray:
    """Even-odd rule, one pixel centre and one edge at a time."""
    mask = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 > y) != (y1 > y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            mask[row, column] = inside
    return mask


def test_polygons_agree_with_the_even_odd_rule_and_with_opencv() -> None:
    import cv2

    generator = np.random.default_rng(0)
    for count in (3, 4, 7, 12):
        points = generator.uniform(-4, 44, (count, 2)).round(int(generator.integers(0, 3)))
        corners = tuple(map(tuple, points.tolist()))
        mask = ShapeMasks([Polygon("x", corners)], (36, 40))["x"]
        np.testing.assert_array_equal(mask, by_hand(corners, 36, 40))
    star = ((20.3, 2.1), (26.7, 33.2), (3.4, 12.9), (37.2, 13.1), (12.6, 33.8))
    mask = ShapeMasks([Polygon("x", star)], (36, 40))["x"]
    # OpenCV fills the border too, so that ours lies within and differs at the border alone.
    filled = np.zeros((36, 40), np.uint8)
    fixed = np.round((np.array(star) - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(filled, [fixed], 1, shift=8)
    assert not (mask & (filled == 0)).any()
    border = np.zeros((36, 40), np.uint8)
    cv2.polylines(border, [fixed], True, 1, thickness=2, shift=8)
    assert not ((filled == 1) & ~mask & (border == 0)).any()


def test_rectangles_agree_with_boxes_and_with_the_same_polygon() -> None:
    box = Box("x", 3.2, 4.5, 17.5, 20.49)
    mask = ShapeMasks([Rectangle(box)], (24, 30))["x"]
    np.testing.assert_array_equal(mask, BoxMasks([box], (24, 30))["x"])
    corners = ((3.2, 4.5), (17.5, 4.5), (17.5, 20.49), (3.2, 20.49))
    np.testing.assert_array_equal(mask, ShapeMasks([Polygon("x", corners)], (24, 30))["x"])


def test_ellipses_agree_with_their_equation_and_with_pillow() -> None:
    mask = ShapeMasks([Ellipse(Box("x", 5, 3, 35, 21))], (24, 40))["x"]
    y, x = np.mgrid[:24, :40] + 0.5
    np.testing.assert_array_equal(mask, ((x - 20) / 15) ** 2 + ((y - 12) / 9) ** 2 <= 1)
    drawn = Image.new("1", (40, 24))
    ImageDraw.Draw(drawn).ellipse((5, 3, 34, 20), fill=1)
    assert (np.asarray(drawn) != mask).sum() <= 8
    assert abs(mask.sum() - np.pi * 15 * 9) < 6
    assert not ShapeMasks([Ellipse(Box("x", 5, 3, 5, 21))], (24, 40))["x"].any()


def object_root(root: Path, real_data: Path, **rows: list[tuple[str, str]]) -> Path:
    for part, found in rows.items():
        header = official_header(real_data, f"Object-CXR/{part}.csv").split(",")
        with (root / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *found])
        (root / part).mkdir()
        for name, _ in found:
            save_image(root / part / Path(name).name, (60, 50))
    return root


def test_object_cxr_reads_all_three_shapes_and_parts(tmp_path: Path, real_data: Path) -> None:
    root = object_root(
        tmp_path, real_data,
        train=[("00001.jpg", "0 1 2 11 22;1 20 10 40 30"), ("00002.jpg", "")],
        dev=[("08001.jpg", "2 1 1 20 1 20 20")],
        test=[("test/09001.jpg", "0 30 40 10 20")],
    )  # fmt: skip
    first, empty, dev, test = object_cxr.read(root)
    name = "Foreign Object"
    assert first.boxes == (Box(name, 1, 2, 11, 22), Box(name, 20, 10, 40, 30))
    assert (first.labels, first.frame) == ({name: 1}, (50, 60))
    assert abs(first.masks[name].sum() - (200 + np.pi * 100)) < 8
    assert (empty.labels, empty.boxes, len(empty.masks)) == ({name: 0}, (), 0)
    assert (dev.id, dev.split, dev.boxes[0]) == ("08001", "valid", Box(name, 1, 1, 20, 20))
    assert 150 < dev.masks[name].sum() < 200
    assert (test.id, test.split) == ("09001", "test")
    assert test.boxes == (Box(name, 10, 20, 30, 40),)
    assert load(first, first.path.read_bytes(), 25).masks[name].shape == (25, 30)


@pytest.mark.parametrize(
    "annotation",
    ["3 1 2 3 4", "0 1 2 3", "2 1 1 2 2", "2 1 1 2 2 3 3 4", "0 a 1 2 3", "0 nan 1 2 3"],
)
def test_object_cxr_broken_shapes_are_told_by_line(
    tmp_path: Path, real_data: Path, annotation: str
) -> None:
    root = object_root(tmp_path, real_data, train=[("1.jpg", "0 1 1 5 5"), ("2.jpg", annotation)])
    good, bad = object_cxr.read(root)
    assert isinstance(good, Record)
    assert "line 3 of train.csv" in bad.reason


# -- VinDr-CXR and VinBigData


def test_majority_and_fusion_by_hand() -> None:
    votes = [{"a": 1, "b": 1}, {"a": 1, "b": 0}, {"a": 0, "b": 0}]
    assert majority(votes) == {"a": 1, "b": 0}
    assert majority([{"a": 1}, {"a": 0}]) == {"a": 0}
    near = [Box("a", 0, 0, 10, 10), Box("a", 2, 0, 12, 10), Box("a", 4, 0, 14, 10)]
    # Neighbours overlap by 80 / 120, the outer two by 60 / 140: linked through the middle one.
    other = [Box("a", 100, 0, 110, 10), Box("b", 0, 0, 10, 10)]
    expected = (Box("a", 2, 0, 12, 10), *other)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [2, 0, 1, 4, 3]):
        assert fuse([(near + other)[place] for place in order]) == expected
    assert len(fuse([Box("a", 0, 0, 10, 10), Box("a", 5, 0, 15, 10)])) == 2


def vindr_root(root: Path, real_data: Path, train: dict, boxes: list[str], suffix: str) -> Path:
    """train: image -> findings that each reader marks; the test image has Cardiomegaly."""
    header = official_header(real_data, "VinDr-CXR/annotations/image_labels_train.csv")
    names = header.split(",")[2:]
    rows = [
        ",".join([image, f"R{reader}", *(str(int(name in marked)) for name in names)])
        for image, readers in train.items()
        for reader, marked in enumerate(readers)
    ]
    write(root / "annotations/image_labels_train.csv", header, *rows)
    of_boxes = official_header(real_data, "VinDr-CXR/annotations/annotations_train.csv")
    write(root / "annotations/annotations_train.csv", of_boxes, *boxes)
    header = official_header(real_data, "VinDr-CXR/annotations/image_labels_test.csv")
    marked = ("Cardiomegaly", "Other disease")
    row = ["t", *(str(int(name in marked)) for name in header.split(",")[1:])]
    write(root / "annotations/image_labels_test.csv", header, ",".join(row))
    of_boxes = official_header(real_data, "VinDr-CXR/annotations/annotations_test.csv")
    write(root / "annotations/annotations_test.csv", of_boxes, "t,Cardiomegaly,1,2,30,40")
    for part, images in (("train", train), ("test", ["t"])):
        for image in images:
            place_image(root / part / f"{image}{suffix}", real_data)
    return root


def place_image(path: Path, real_data: Path) -> None:
    if path.suffix == ".png":
        save_image(path, (512, 512))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(next((real_data / "real/dicom").glob("1.2*.dcm")), path)


READERS = {
    "a": [{"Cardiomegaly", "Other diseases"}, {"Cardiomegaly", "Other diseases"}, {"ILD"}],
    "b": [{"No finding"}, {"No finding"}, {"ILD"}],
}
BOXES = [
    "a,R0,Cardiomegaly,100,200,300,400", "a,R1,Cardiomegaly,110,200,310,400",
    "a,R2,ILD,1,1,50,50", "b,R0,No finding,,,,", "b,R1,No finding,,,,", "b,R2,ILD,1,1,50,50",
]  # fmt: skip


def test_vindr_readers_agree_by_majority(tmp_path: Path, real_data: Path) -> None:
    root = vindr_root(tmp_path, real_data, READERS, BOXES, ".dicom")
    first, second, test = vindr.read(root)
    assert {name for name, value in first.labels.items() if value} == {
        "Cardiomegaly", "Other disease",
    }  # fmt: skip
    assert set(first.labels) == set(vindr.CARD.findings)
    assert first.boxes == (Box("Cardiomegaly", 105, 200, 305, 400),)
    assert (first.split, first.frame, first.path.suffix) == (None, None, ".dicom")
    assert [name for name, value in second.labels.items() if value] == ["No finding"]
    assert second.boxes == ()
    assert {name for name, value in test.labels.items() if value} == {
        "Cardiomegaly", "Other disease",
    }  # fmt: skip
    assert (test.split, test.boxes) == ("test", (Box("Cardiomegaly", 1, 2, 30, 40),))


def test_vindr_copies_need_the_originals_size(tmp_path: Path, real_data: Path) -> None:
    root = vindr_root(tmp_path, real_data, READERS, BOXES, ".png")
    first, second, test = vindr.read(root)
    assert "train_meta.csv (image_id,dim0,dim1" in first.reason
    assert isinstance(second, Record)
    assert isinstance(test, Rejected)
    write(root / "train_meta.csv", "image_id,dim0,dim1", "a,2048,1024")
    (found, *_) = vindr.read(root)
    assert "2048 x 1024" in found.reason
    assert "--option copies=stretched" in found.reason
    (found, *_) = vindr.read(root, {"copies": "stretched"})
    sample = load(found, found.path.read_bytes(), 512)
    # 2,048 rows and 1,024 columns squeezed to 512 x 512.
    assert sample.boxes == (Box("Cardiomegaly", 52.5, 50, 152.5, 100),)


def test_vindr_broken_rows_are_told(tmp_path: Path, real_data: Path) -> None:
    boxes = ["a,R0,Cardiomegaly,1,2,x,4", "b,R0,Aorta,1,2,3,4"]
    root = vindr_root(tmp_path, real_data, READERS, boxes, ".dicom")
    first, second, _ = vindr.read(root)
    assert "line 2 of annotations_train.csv: x_max is 'x'" in first.reason
    assert "line 3 of annotations_train.csv: 'Aorta' is no finding" in second.reason
    labels = root / "annotations/image_labels_train.csv"
    text = labels.read_text()
    labels.write_text(text.replace("Other diseases", "Else"))
    with pytest.raises(BadData, match=r"lacks the columns \['Other disease'\]"):
        list(vindr.read(root))
    labels.write_text(text.replace("a,R0,0", "a,R0,2"))
    assert "is 2, not 0 or 1" in next(vindr.read(root)).reason


def vinbigdata_root(root: Path, real_data: Path, rows: list[str], header: str = "") -> Path:
    header = official_header(real_data, "VinBigData/train.csv") + header
    write(root / "train.csv", header, *rows)
    for row in rows:
        place_image(root / "train" / f"{row.split(',')[0]}.png", real_data)
    return root


def test_vinbigdata_reads_rescaled_copies(tmp_path: Path, real_data: Path) -> None:
    rows = [
        "a,Cardiomegaly,3,R9,691.0,1375.0,1653.0,1831.0,4096,4096",
        "a,Cardiomegaly,3,R10,691.0,1375.0,1653.0,1831.0,4096,4096",
        "a,Nodule/Mass,8,R10,1,1,9,9,4096,4096",
        "a,No finding,14,R8,,,,,4096,4096",
        *(f"b,No finding,14,R{reader},,,,,100,100" for reader in (8, 9, 10)),
    ]
    first, second = vinbigdata.read(vinbigdata_root(tmp_path, real_data, rows, ",width,height"))
    assert first.boxes == (Box("Cardiomegaly", 691, 1375, 1653, 1831),)
    assert first.frame == (4096, 4096)
    assert {name for name, value in first.labels.items() if value} == {"Cardiomegaly"}
    assert second.labels["No finding"] == 1
    assert second.boxes == ()


def test_vinbigdata_official_rows_and_wrong_numbers(tmp_path: Path, real_data: Path) -> None:
    path = real_data / "official_rows/VinBigData/train.csv"
    rows = path.read_text().splitlines()[1:]
    root = vinbigdata_root(tmp_path, real_data, rows)
    ids = [row.split(",")[0] for row in rows]
    write(root / "train_meta.csv", "image_id,dim0,dim1", *(f"{name},3000,3000" for name in ids))
    found = list(vinbigdata.read(root))
    assert [item.labels["Cardiomegaly"] for item in found] == [1, 0] * 3
    root = vinbigdata_root(tmp_path / "wrong", real_data, ["a,Cardiomegaly,4,R9,1,2,3,4"])
    assert "line 2 of train.csv: the class 'Cardiomegaly'" in next(vinbigdata.read(root)).reason


# -- TBX11K


def test_tbx11k_excerpt_in_both_layouts(tmp_path: Path, real_data: Path) -> None:
    original = list(tbx11k.read(real_data / "real/tbx11k_sample"))
    assert [item.id for item in original] == ["tb0005", "tb0007", "h0001"]
    assert [len(item.boxes) for item in original] == [1, 2, 0]
    assert original[1].labels == {
        "Tuberculosis": 1, "Active Tuberculosis": 0, "Latent Tuberculosis": 1, "Healthy": 0,
        "Other Sickness": 0,
    }  # fmt: skip
    frame = Frame(real_data, tuple(trusted_roots(real_data)), 256)
    assert decode(original[0], frame)["boxes"].startswith('[["Active Tuberculosis",190.9')
    kinds = {"active_tb": "Active Tuberculosis", "latent_tb": "Latent Tuberculosis"}
    names = {finding: name for name, finding in kinds.items()}
    with (tmp_path / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        header = official_header(real_data, "TBX11K-simplified/data.csv")
        rows.writerow(header.split(","))
        for item in original:
            save_image(tmp_path / "images" / f"{item.id}.png", (512, 512))
            for box in item.boxes:
                cell = {"xmin": box.x0, "ymin": box.y0, "width": box.x1 - box.x0,
                        "height": box.y1 - box.y0}  # fmt: skip
                rows.writerow([f"{item.id}.png", 512, 512, "train", str(cell), "tb",
                               names[box.finding], "tb"])  # fmt: skip
            if not item.boxes:
                rows.writerow([f"{item.id}.png", 512, 512, "train", "none", "no_tb", "none",
                               "healthy"])  # fmt: skip
    for ours, theirs in zip(tbx11k.read(tmp_path), original, strict=True):
        assert (ours.id, ours.labels, ours.frame) == (theirs.id, theirs.labels, theirs.frame)
        ours_at = [box[1:] for box in ours.boxes]
        np.testing.assert_allclose(ours_at, [box[1:] for box in theirs.boxes])


def test_tbx11k_bbox_cells_are_literals_and_nothing_else(tmp_path: Path, real_data: Path) -> None:
    cells = [
        "__import__('os').system('touch pwned')", "{'xmin': 1}", "[1, 2, 3, 4]", "(" * 90_000,
        "(" * 300, "{'xmin': 'a', 'ymin': 1, 'width': 1, 'height': 1}", "{1: [}", "\\",
    ]  # fmt: skip
    with (tmp_path / "data.csv").open("w", newline="") as file:
        header = official_header(real_data, "TBX11K-simplified/data.csv").split(",")
        rows = [
            [f"t{place}.png", 512, 512, "train", cell, "tb", "active_tb", "tb"]
            for place, cell in enumerate(cells)
        ]
        csv.writer(file).writerows([header, *rows])
    for place in range(len(cells)):
        save_image(tmp_path / f"images/t{place}.png")
    found = list(tbx11k.read(tmp_path))
    assert [type(item) for item in found] == [Rejected] * len(cells)
    assert all(f"line {place + 2} of data.csv" in item.reason for place, item in enumerate(found))
    assert not Path("pwned").exists()


def test_tbx11k_without_boxes_and_of_unknown_type(tmp_path: Path) -> None:
    content = {
        "categories": [{"id": 3, "name": "PulmonaryTuberculosis"}],
        "images": [
            {"id": n, "file_name": f"{kind}/{kind}{n}.png", "width": 512, "height": 512}
            for n, kind in enumerate(("tb", "tb", "sick", "mars"))
        ],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    }
    write(tmp_path / "annotations/json/TBX11K_val.json", json.dumps(content))
    for image in content["images"]:
        save_image(tmp_path / "imgs" / image["file_name"])
    bare, unsure, sick, odd = tbx11k.read(tmp_path)
    assert bare.boxes is None
    assert "Active Tuberculosis" not in bare.labels
    assert unsure.boxes == (Box("Tuberculosis", 1, 2, 4, 6),)
    assert "Latent Tuberculosis" not in unsure.labels
    assert (sick.boxes, sick.labels["Other Sickness"]) == ((), 1)
    assert sick.labels["Active Tuberculosis"] == 0
    assert "'mars' is no kind" in odd.reason


# -- SIIM, three layouts


def test_siim_is_the_same_in_all_three_layouts(tmp_path: Path, real_data: Path) -> None:
    mask = np.zeros((1024, 1024), bool)
    mask[100:300, 50:90] = True
    runs = encode(mask)[:-1]
    drawn = {"1.2.3": mask, "1.2.4": np.zeros_like(mask)}
    for name, part in drawn.items():
        place_image(tmp_path / f"dicom/dicom-images-train/s/t/{name}.dcm", real_data)
        number = name[-1]
        save_image(
            tmp_path / f"shelf/png_images/{number}_train_{int(part.any())}_.png", (1024, 1024)
        )
        save_image(tmp_path / f"flat/train/{name}.png", (1024, 1024))
        for place in (f"shelf/png_masks/{number}_train_{int(part.any())}_.png",
                      f"flat/masks/{name}.png"):  # fmt: skip
            (tmp_path / place).parent.mkdir(exist_ok=True)
            Image.fromarray(part.astype(np.uint8) * 255).save(tmp_path / place)
    code = " ".join(map(str, runs))
    header = official_header(real_data, "SIIM/train-rle.csv")
    write(tmp_path / "dicom/train-rle.csv", header, f"1.2.3, {code}", "1.2.4, -1")
    header = official_header(real_data, "SIIM-vbookshelf/stage_1_train_images.csv")
    write(tmp_path / "shelf/stage_1_train_images.csv", header, "3_train_1_.png,1.2.3,1",
          "4_train_0_.png,1.2.4,0")  # fmt: skip
    for layout in ("dicom", "shelf", "flat"):
        positive, negative = siim.read(tmp_path / layout)
        assert (positive.id, positive.labels) == ("1.2.3", {"Pneumothorax": 1}), layout
        np.testing.assert_array_equal(positive.masks["Pneumothorax"], mask)
        assert (negative.id, negative.labels) == ("1.2.4", {"Pneumothorax": 0}), layout
        assert len(negative.masks) == 0


def test_siim_copies_tell_contradictions_and_gaps(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save_image(tmp_path / f"png_images/{number}_test_0_.png")
        save_image(tmp_path / f"png_masks/{number}_test_0_.png", value=0)
    write(tmp_path / "stage_1_test_images.csv", "new_filename,ImageId,has_pneumo",
          "1_test_0_.png,a,0", "2_test_0_.png,b,1", "3_test_0_.png,c,x", "9_test_0_.png,d,0",
          )  # fmt: skip
    found = list(siim.read(tmp_path))
    assert [type(item) for item in found] == [Record, Rejected, Rejected, Missing]
    assert "contradicts the name" in found[1].reason
    flat = tmp_path / "flat"
    save_image(flat / "train/a.png")
    save_image(flat / "masks/b.png")
    (lonely,) = siim.read(flat)
    assert lonely == Missing("a, its mask", flat / "train/a.png")


# -- Open-i, both layouts


def nlm_root(root: Path, real_data: Path) -> Path:
    source = real_data / "official_rows/Open-i/ecgen-radiology"
    shutil.copytree(source, root / "NLMCXR_reports/ecgen-radiology")
    for _, study in open_i_nlm.read_studies(source):
        for name in study.images:
            save_image(root / f"NLMCXR_png/{name}.png")
    return root


def test_open_i_is_the_same_in_both_layouts(tmp_path: Path, real_data: Path) -> None:
    kaggle = tmp_path / "kaggle"
    kaggle.mkdir()
    for name in (open_i.REPORTS, open_i.PROJECTIONS):
        shutil.copy(real_data / "official_rows/Open-i" / name, kaggle / name)
    with (kaggle / open_i.PROJECTIONS).open() as file:
        for row in csv.DictReader(file):
            save_image(kaggle / "images/images_normalized" / row["filename"])
    theirs = {item.id: item for item in open_i.read(kaggle) if item.patient in {"1", "2", "3"}}
    ours = {item.id: item for item in open_i.read(nlm_root(tmp_path / "nlm", real_data))}
    assert len(ours) == 6
    assert ours.keys() == theirs.keys()
    for name, item in ours.items():
        assert (item.patient, item.report, item.labels) == (
            theirs[name].patient, theirs[name].report, theirs[name].labels,
        )  # fmt: skip


def test_open_i_names_of_both_layouts_map_to_one_id(real_data: Path) -> None:
    assert open_i_nlm.image_id("CXR1_1_IM-0001-3001") == "1_IM-0001-3001"
    with (real_data / "official_rows/Open-i/nlmcxr_tsne_pa.csv").open() as file:
        for row in csv.DictReader(file):
            uid = row["imageid"].split("_")[0].removeprefix("CXR")
            assert open_i_nlm.image_id(row["imageid"]).startswith(f"{uid}_IM-")
    for name in ("1_IM-0001", "CXR_IM-1", "CXR1", "CXR1_2_IM-1", "CXR1_IM-"):
        with pytest.raises(BadData, match="no name of an Open-i image"):
            open_i_nlm.image_id(name)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aa">{}]>'
    '<eCitation><uId id="CXR9"/>&{};</eCitation>'
)


def test_open_i_reports_that_declare_entities_are_refused(tmp_path: Path, real_data: Path) -> None:
    root = nlm_root(tmp_path, real_data)
    folder = root / "NLMCXR_reports/ecgen-radiology"
    names = "abcdefghij"
    levels = (
        "<!ENTITY " + outer + ' "' + f"&{inner};" * 10 + '">' for inner, outer in pairwise(names)
    )
    bomb = BOMB.format("".join(levels), "j")
    outside = BOMB.format('<!ENTITY z SYSTEM "file:///etc/passwd">', "z")
    (folder / "9.xml").write_text(bomb)
    wide = bomb.replace('"1.0"', '"1.0" encoding="utf-16"').encode("utf-16")
    (folder / "10.xml").write_bytes(wide)
    (folder / "11.xml").write_text(outside)
    (folder / "12.xml").write_text("<eCitation><uId/></eCitation>")
    (folder / "13.xml").write_text("<eCitation>")
    (folder / "14.xml").write_bytes(b"<a>" + b" " * 1_100_000)
    found = list(open_i.read(root))
    broken = {item.id: item.reason for item in found if isinstance(item, Rejected)}
    assert len(found) - len(broken) == 6
    assert all("document type" in broken[f"{number}.xml"] for number in (9, 10, 11))
    assert "no uId" in broken["12.xml"]
    assert "cannot be read" in broken["13.xml"]
    assert "more than" in broken["14.xml"]


# -- fundus


def test_fundus_official_layout_is_prepared(tmp_path: Path, real_data: Path) -> None:
    """DRIVE with .tif images throughout, as its owners distribute it; CHASE_DB1 beside it."""
    source = real_data / "real/retina_drive_chase"
    root = tmp_path / "retina"
    for part, count in (("training", 4), ("test", 2)):
        for path in sorted((source / "DRIVE" / part / "images").iterdir())[:count]:
            target = root / "DRIVE" / part / "images" / f"{path.stem}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as picture:
                picture.save(target, compression="tiff_lzw")
        shutil.copytree(
            source / "DRIVE" / part / "1st_manual", root / "DRIVE" / part / "1st_manual"
        )
        shutil.copytree(source / "DRIVE" / part / "mask", root / "DRIVE" / part / "mask")
    (root / "CHASEDB1").mkdir()
    for path in (source / "CHASEDB1").glob("Image_01*"):
        shutil.copy(path, root / "CHASEDB1")
    store = prepare("fundus", root, tmp_path / "s", progress=quiet, registry=Registry(), size=128)
    assert len(store) == 8
    assert store.table["split"].value_counts()["test"] == 2
    eyes = store.table[store.table["id"].str.startswith("chase")]
    assert (eyes["patient"].nunique(), eyes["split"].nunique()) == (1, 1)
    assert all(0.03 < sample.masks["Vessel"].mean() < 0.25 for sample in store)


def test_fundus_excerpt_masks_are_the_files(real_data: Path) -> None:
    root = real_data / "real/retina_drive_chase"
    found = {item.id: item for item in fundus.read(root)}
    assert Counter((name[:5], item.split) for name, item in found.items()) == {
        ("drive", None): 19, ("drive", "test"): 10, ("chase", None): 14,
    }  # fmt: skip
    with Image.open(root / "DRIVE/training/1st_manual/21_manual1.gif") as picture:
        expected = np.asarray(picture.convert("L")) > 100
    np.testing.assert_array_equal(found["drive_21"].masks["Vessel"], expected)
    sample = load(found["drive_21"], found["drive_21"].path.read_bytes(), 10_000)
    # Vessels are darker than what surrounds them: mask and image lie on each other.
    inside = sample.image[sample.masks["Vessel"]].mean()
    assert inside < sample.image[~sample.masks["Vessel"] & (sample.image > 40)].mean()


def test_fundus_needs_either_set_and_its_masks(tmp_path: Path, real_data: Path) -> None:
    with pytest.raises(BadData, match="neither DRIVE"):
        list(fundus.read(tmp_path))
    shutil.copy(real_data / "real/retina_drive_chase/CHASEDB1/Image_01L.jpg", tmp_path)
    (found,) = fundus.read(tmp_path)
    assert isinstance(found, Missing)


# -- image files that only these sets have


@pytest.mark.parametrize("name", ["a.tif", "a.gif"])
def test_tiff_and_gif_are_read_first_frame_only(tmp_path: Path, name: str) -> None:
    from g2dbench.data.images.image_file import picture_size, read_image

    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    frames = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    image, shape = read_image(tmp_path / name)
    np.testing.assert_array_equal(image, grey)
    assert shape == picture_size(tmp_path / name) == (6, 8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_broken_tiff_and_gif_are_bad_data_or_an_image(tmp_path: Path, suffix: str) -> None:
    """400 files with some bytes changed or cut off: none ends in another error."""
    from g2dbench.data.images.image_file import decode_image

    generator = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    save_image(path, (40, 30))
    whole, outcomes = path.read_bytes(), Counter()
    for _ in range(400):
        data = bytearray(whole[: int(generator.integers(1, len(whole) + 1))])
        for place in generator.integers(0, min(len(data), 200), 4):
            data[place] = int(generator.integers(256))
        try:
            decode_image(bytes(data), path, None)
            outcomes["read"] += 1
        except BadData:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50


def test_huge_tiffs_and_gifs_are_refused_by_their_header(tmp_path: Path) -> None:
    save_image(tmp_path / "a.gif", (8, 8))
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(data)
    # Width and height in a TIFF are two directory entries of 12 bytes: tag, type, count, value.
    entries = ((256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8), (279, 8))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    (tmp_path / "a.tif").write_bytes(head + directory + b"\0" * 4)
    for name in ("a.gif", "a.tif"):
        with pytest.raises(BadData, match=r"claims|too large"):
            read_mask(tmp_path / name)
