"""Where MIMIC-CXR's reports are found, and damaged or hostile report archives."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from support.data.mimic import (
    REPORTS,
    images_root,
    relative,
    report_name,
    write_zip,
)

from g2dbench.data.readers import mimic_cxr
from g2dbench.data.readers.mimic_cxr.reports import MAX_BYTES, open_reports
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The images' project with the reports' zip in it."""
    made = images_root(tmp_path / "jpg")
    write_zip(made / "mimic-cxr-reports.zip", REPORTS)
    return made


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
def test_reports_are_found_in_usual_places(tmp_path: Path, place: str) -> None:
    root = images_root(tmp_path / "x/jpg")
    PLACES[place](tmp_path)
    assert {item.report[-1] for item in mimic_cxr.read(root)} == set("acde")


def test_the_root_may_be_the_folder_that_holds_both_projects(tmp_path: Path) -> None:
    images_root(tmp_path / "mimic-cxr-jpg/2.1.0")
    write_zip(tmp_path / "mimic-cxr/2.0.0/mimic-cxr-reports.zip", REPORTS)
    found = list(mimic_cxr.read(tmp_path))
    assert Counter(type(item) for item in found) == {Record: 5}
    row = decode(found[0], DecodeSettings(tmp_path, tuple(trusted_roots(tmp_path)), 32))
    assert row["source"] == f"mimic-cxr-jpg/2.1.0/{relative('a')}"


def test_without_reports_the_error_names_an_option_that_works(tmp_path: Path) -> None:
    root = images_root(tmp_path / "jpg")
    with pytest.raises(BadData, match="make an empty folder"):
        list(mimic_cxr.read(root))
    (root / "mimic-cxr-reports").mkdir()
    assert {item.report for item in mimic_cxr.read(root)} == {None}


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


def test_bombs_damage_and_foreign_text_reject_only_their_study(root: Path) -> None:
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
