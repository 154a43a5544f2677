"""MS-CXR: phrases and boxes in the official layout."""

from pathlib import Path

import pytest
from support.data.mimic import (
    dicom_id,
    images_root,
    relative,
    write,
)

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import ms_cxr
from g2dbench.data.store.decode import DecodeSettings, decode
from g2dbench.data.tables.files import trusted_roots
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record

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
    row = decode(first, DecodeSettings(tmp_path, tuple(trusted_roots(tmp_path)), 25))
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
