"""MIMIC-CXR-JPG with its reports, and MS-CXR: invented rows in the official layout."""

import gzip
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from support.mimic import (
    LABELS,
    METADATA,
    REPORT,
    REPORTS,
    SPLIT,
    dicom_id,
    images_root,
    relative,
    report_name,
    write,
    write_zip,
)

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import mimic_cxr, ms_cxr
from g2dbench.data.readers.mimic_cxr.reports import MAX_BYTES, open_reports
from g2dbench.data.store.decode import Frame, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The images' project with the reports' zip in it."""
    made = images_root(tmp_path / "jpg")
    write_zip(made / "mimic-cxr-reports.zip", REPORTS)
    return made


RADIOLOGISTS = (
    "study_id,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Lesion,Airspace Opacity,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices"
)
OFFICIAL = {
    "MIMIC-CXR-JPG/mimic-cxr-2.0.0-metadata.csv": METADATA,
    "MIMIC-CXR-JPG/mimic-cxr-2.0.0-split.csv": SPLIT,
    "MIMIC-CXR-JPG/mimic-cxr-2.0.0-chexpert.csv": LABELS,
    "MIMIC-CXR-JPG/mimic-cxr-2.1.0-test-set-labeled.csv": RADIOLOGISTS,
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_fixtures_have_the_official_headers(real_data: Path, name: str) -> None:
    official = (real_data / "official_rows" / name).read_text().splitlines()[0]
    assert official == OFFICIAL[name]


def test_images_reports_labels_and_split_are_joined(root: Path) -> None:
    found = {item.id[0]: item for item in mimic_cxr.read(root)}
    assert all(isinstance(item, Record) for item in found.values())
    first = found["a"]
    assert first.path == root / relative("a")
    assert (first.patient, first.study, first.view) == ("10000001", "50000001", "PA")
    assert first.report == f"{REPORT} a"
    assert first.labels == {
        "Atelectasis": 1, "Cardiomegaly": 0, "Consolidation": -1, "Lung Opacity": 1,
    }  # fmt: skip
    assert (found["b"].report, found["b"].labels) == (first.report, first.labels)
    assert found["c"].labels is None
    assert [found[k].view for k in "bcd"] == ["LATERAL", "unspecified", "AP"]
    assert [found[k].split for k in "acde"] == ["train", "train", "valid", "test"]


def test_radiologists_labels_replace_those_of_their_studies(root: Path) -> None:
    write(
        root / "mimic-cxr-2.1.0-test-set-labeled.csv", RADIOLOGISTS,
        ["50000004,0.0,,,,1.0,0.0,,,,,,,,"],
    )  # fmt: skip
    found = {item.id[0]: item.labels for item in mimic_cxr.read(root)}
    assert found["e"] == {"No Finding": 0, "Lung Opacity": 1, "Edema": 0}
    assert found["d"] == {"No Finding": 1}


def test_the_order_of_columns_and_packing_do_not_matter(root: Path) -> None:
    before = list(mimic_cxr.read(root))
    packed = root / "mimic-cxr-2.0.0-chexpert.csv.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    turned = [",".join(reversed(line.split(","))) for line in lines]
    write(root / "mimic-cxr-2.0.0-chexpert.csv", turned[0], turned[1:])
    packed.unlink()
    assert list(mimic_cxr.read(root)) == before


def test_a_store_keeps_the_whole_report(root: Path, tmp_path: Path) -> None:
    store = prepare(
        "mimic_cxr", root, tmp_path / "store", progress=quiet, registry=Registry(), size=32
    )
    assert store.manifest.summary.splits == {"train": 3, "valid": 1, "test": 1}
    assert store[0].report == f"{REPORT} a"


# -- where reports lie


def unpacked(folder: Path) -> None:
    for name, text in REPORTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


PLACES = {
    "inside": lambda top: write_zip(top / "x/jpg/mimic-cxr-reports.zip", REPORTS),
    "beside": lambda top: write_zip(top / "x/mimic-cxr-reports.zip", REPORTS),
    "PhysioNet": lambda top: write_zip(top / "mimic-cxr/2.0.0/mimic-cxr-reports.zip", REPORTS),
    "unpacked": lambda top: unpacked(top / "x/jpg/mimic-cxr-reports"),
    "unpacked PhysioNet": lambda top: unpacked(top / "mimic-cxr/2.0.0"),
    "unpacked over the images": lambda top: unpacked(top / "x/jpg"),
}


@pytest.mark.parametrize("place", PLACES)
def test_reports_are_found_where_people_put_them(tmp_path: Path, place: str) -> None:
    root = images_root(tmp_path / "x/jpg")
    PLACES[place](tmp_path)
    assert {item.report[-1] for item in mimic_cxr.read(root)} == set("acde")


def test_the_root_may_be_the_folder_that_holds_both_projects(tmp_path: Path) -> None:
    images_root(tmp_path / "mimic-cxr-jpg/2.1.0")
    write_zip(tmp_path / "mimic-cxr/2.0.0/mimic-cxr-reports.zip", REPORTS)
    found = list(mimic_cxr.read(tmp_path))
    assert Counter(type(item) for item in found) == {Record: 5}
    row = decode(found[0], Frame(tmp_path, tuple(trusted_roots(tmp_path)), 32))
    assert row["source"] == f"mimic-cxr-jpg/2.1.0/{relative('a')}"


def test_without_reports_the_way_out_is_named_and_works(tmp_path: Path) -> None:
    root = images_root(tmp_path / "jpg")
    with pytest.raises(BadData, match="make an empty folder"):
        list(mimic_cxr.read(root))
    (root / "mimic-cxr-reports").mkdir()
    assert {item.report for item in mimic_cxr.read(root)} == {None}


# -- what is broken


def test_broken_rows_cost_no_neighbour(root: Path) -> None:
    (root / relative("b")).unlink()
    rows = [
        f"{dicom_id('f')},../../etc,50000009,,PA,,,,,,,",
        "../../x,10000001,50000001,,PA,,,,,,,",
        f"{dicom_id('a')[:-1]}9,10000001,50000001,,PA,,,,,,,",
    ]
    packed = root / "mimic-cxr-2.0.0-metadata.csv.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    write(packed, lines[0], [*lines[1:], *rows])
    found = list(mimic_cxr.read(root))
    assert Counter(type(item) for item in found) == {Record: 4, Missing: 1, Rejected: 3}
    reasons = " ".join(item.reason for item in found if isinstance(item, Rejected))
    assert "'../../etc'" in reasons
    assert "'../../x' is no dicom_id" in reasons
    assert "gives the split ''" in reasons


def test_a_broken_label_costs_its_study_alone(root: Path) -> None:
    write(root / "mimic-cxr-2.0.0-chexpert.csv", LABELS, ["1,50000003,2.0,,,,,,,,,,,,,"])
    found = {item.id[0]: item for item in mimic_cxr.read(root)}
    assert isinstance(found["d"], Rejected)
    assert "line 2 of mimic-cxr-2.0.0-chexpert.csv: Atelectasis is '2.0'" in found["d"].reason
    assert isinstance(found["a"], Record)


@pytest.mark.parametrize(
    "table",
    ["mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.0.0-split.csv", mimic_cxr.LABELS["chexpert"]],
)
def test_missing_tables_and_columns_are_named(root: Path, table: str) -> None:
    (root / f"{table}.gz").unlink()
    with pytest.raises(BadData, match=table):
        list(mimic_cxr.read(root))
    write(root / table, "one,two", ["1,2"])
    with pytest.raises(BadData, match=f"{table} lacks the columns"):
        list(mimic_cxr.read(root))


def test_missing_images_are_named(tmp_path: Path) -> None:
    write_zip(tmp_path / "mimic-cxr-reports.zip", REPORTS)
    for name, header in (("metadata", METADATA), ("split", SPLIT), ("chexpert", LABELS)):
        write(tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz", header, [])
    with pytest.raises(BadData, match="holds no images"):
        list(mimic_cxr.read(tmp_path))


NAME = report_name("50000001", "10000001")


def test_entries_that_escape_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "reports.zip"
    write_zip(path, {f"../{NAME}": "evil", f"/{NAME}": "evil", NAME: "good"})
    assert open_reports(path).read("10000001", "50000001") == "good"
    assert open_reports(path).read("10000001", "50000002") is None
    assert [item.name for item in tmp_path.iterdir()] == ["reports.zip"]


def test_a_zip_without_reports_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "reports.zip", {f"../{NAME}": "evil"})
    with pytest.raises(BadData, match="holds no report"):
        open_reports(tmp_path / "reports.zip")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(BadData, match="no readable zip"):
        open_reports(tmp_path / "broken.zip")
    with pytest.raises(BadData, match="neither a zip nor a folder"):
        open_reports(tmp_path / "nowhere")


def test_a_report_twice_in_a_zip_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "reports.zip", {NAME: "one", NAME.removeprefix("files/"): "two"})
    with pytest.raises(BadData, match="twice"):
        open_reports(tmp_path / "reports.zip")


def test_bombs_damage_and_foreign_text_cost_their_study_alone(root: Path) -> None:
    bomb, foreign = report_name("50000001", "10000001"), report_name("50000003", "11000001")
    path = root / "mimic-cxr-reports.zip"
    write_zip(path, {**REPORTS, bomb: "x" * (MAX_BYTES + 1)})
    with zipfile.ZipFile(path, "a") as file:
        start = file.getinfo(report_name("50000004", "12000001")).header_offset
    data = bytearray(path.read_bytes())
    text_at = start + 30 + len(report_name("50000004", "12000001"))
    data[text_at + 4] ^= 0xFF
    path.write_bytes(data)
    found = {item.id[0]: item for item in mimic_cxr.read(root)}
    assert "larger than" in found["a"].reason
    assert "larger than" in found["b"].reason
    assert isinstance(found["e"], Rejected)
    assert isinstance(found["d"], Record)
    write_zip(path, REPORTS)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(foreign, b"\xff\xfe")
    assert "no UTF-8" in {i.id[0]: i for i in mimic_cxr.read(root)}["d"].reason


def test_links_out_of_unpacked_reports_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    path = tmp_path / "reports" / NAME
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    with pytest.raises(BadData, match="leads out"):
        open_reports(tmp_path / "reports").read("10000001", "50000001")


# -- MS-CXR

PHRASES = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height"


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_ms_cxr_fixtures_have_the_official_headers(real_data: Path, version: str) -> None:
    file = real_data / f"official_rows/MS-CXR/MS_CXR_Local_Alignment_v{version}.csv"
    header = f"{PHRASES},split" if version == "1.1.0" else PHRASES
    assert file.read_text().splitlines()[0] == header


def phrase_row(letter: str, box: str, text: str = "left pneumothorax", split: str = "") -> str:
    row = f'{dicom_id(letter)},Pneumothorax,"{text}",{relative(letter)},{box},50,60'
    return f"{row},{split}" if split else row


def test_phrases_are_boxes_in_pixels_of_the_original(tmp_path: Path) -> None:
    images_root(tmp_path)
    rows = [
        phrase_row("a", "1,2,10,20", split="train"),
        phrase_row("a", "20,2,10,20", split="train"),
        phrase_row("a", "5,5,5,5", "small, apical", split="train"),
        phrase_row("d", "0,0,50,60", split="val"),
        phrase_row("e", "0,0,50,60", split="test"),
    ]
    write(tmp_path / ms_cxr.TABLES[0], f"{PHRASES},split", rows)
    found = list(ms_cxr.read(tmp_path))
    assert [item.split for item in found] == ["train", "valid", "test"]
    first = found[0]
    assert first.boxes == (
        Box("left pneumothorax", 1, 2, 11, 22),
        Box("left pneumothorax", 20, 2, 30, 22),
        Box("small, apical", 5, 5, 10, 10),
    )
    assert (first.frame, first.labels) == ((60, 50), {"Pneumothorax": 1})
    assert (first.patient, first.study) == ("10000001", "50000001")
    row = decode(first, Frame(tmp_path, tuple(trusted_roots(tmp_path)), 25))
    assert row["boxes"].startswith('[["left pneumothorax",0.5,1.0,5.5,11.0]')


def test_ms_cxr_is_found_beside_the_images_and_split_for_testing(tmp_path: Path) -> None:
    images_root(tmp_path / "mimic-cxr-jpg/2.1.0")
    rows = [phrase_row(letter, "1,2,10,20") for letter in "acde"]
    write(tmp_path / "ms-cxr/1.0.0" / ms_cxr.TABLES[1], PHRASES, rows)
    store = prepare(
        "ms_cxr", tmp_path, tmp_path / "store", progress=quiet, registry=Registry(), size=32
    )
    assert store.manifest.summary.stored == 4
    assert set(store.table["split"]) <= {"valid", "test"}


def test_ms_cxr_broken_rows_are_rejected_by_image(tmp_path: Path) -> None:
    images_root(tmp_path)
    rows = [
        phrase_row("a", "1,2,nan,20"),
        phrase_row("b", "1,2,3,4").replace("files/", "../"),
        phrase_row("c", "1,2,3,4").replace("Pneumothorax", "Gout"),
        phrase_row("d", "1,2,3,4"),
        phrase_row("d", "1,2,3,4").replace(",50,60", ",50,61"),
        phrase_row("e", "1,2,3,4"),
    ]
    write(tmp_path / ms_cxr.TABLES[1], PHRASES, rows)
    (tmp_path / relative("e")).unlink()
    found = list(ms_cxr.read(tmp_path))
    assert [type(item) for item in found] == [Record, *[Rejected] * 3, Missing]
    assert (found[0].labels, found[0].boxes) == ({"Pneumothorax": 1}, None)
    assert "no MIMIC-CXR-JPG path" in found[1].reason
    assert "'Gout'" in found[2].reason
    assert "differ in the image's size" in found[3].reason
