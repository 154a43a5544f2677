"""Open-i: Kaggle's layout and the NLM's, which give the same records."""

import csv
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from support.data.official_layouts import open_i_root, save_image

from g2dbench.data.readers import (
    open_i,
)
from g2dbench.data.readers.open_i import nlm as open_i_nlm
from g2dbench.data.tables.records import Rejected
from g2dbench.errors import BadData


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
