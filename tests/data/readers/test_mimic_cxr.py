"""MIMIC-CXR-JPG: invented rows in the official layout."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from support.data.mimic import (
    LABELS,
    METADATA,
    REPORT,
    REPORTS,
    SPLIT,
    dicom_id,
    images_root,
    relative,
    write,
    write_zip,
)

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import mimic_cxr
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Record


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


def test_invalid_rows_do_not_affect_other_rows(root: Path) -> None:
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


def test_an_invalid_label_rejects_only_its_study(root: Path) -> None:
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
