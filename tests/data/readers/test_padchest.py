"""PadChest: invented rows under the official header."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.prepare import prepare
from g2dbench.data.readers import padchest
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Record

HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
    "ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,"
    "PhotometricInterpretation_DICOM,PixelRepresentation_DICOM,PixelAspectRatio_DICOM,"
    "SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,"
    "Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,"
    "RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,"
    "LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
)
USUAL = {
    "ImageDir": "0", "StudyDate_DICOM": "20140915", "StudyID": "s1", "PatientID": "p1",
    "PatientBirth": "1930.0", "PatientSex_DICOM": "F", "Projection": "PA",
    "Report": "sin hallazg patolog .", "MethodLabel": "Physician", "Labels": "['normal']",
}  # fmt: skip


def line(name: str, **changes: str) -> str:
    cells = {"ImageID": f"{name}.png", **USUAL, **changes}
    return ",".join(f'"{cells.get(column, "")}"' for column in HEADER.split(","))


def make(root: Path, *lines: str) -> Path:
    text = "".join(f"{row}\n" for row in (HEADER, *lines)).encode()
    (root / f"{padchest.TABLE}.gz").write_bytes(gzip.compress(text))
    return root


def add_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(pixels).save(path)


def test_the_fixture_has_the_official_header(real_data: Path) -> None:
    official = real_data / "official_rows/PadChest" / padchest.TABLE
    assert official.read_text().splitlines()[0] == HEADER
    assert len(HEADER.split(",")) == 36


def test_physicians_labels_count_and_predicted_ones_do_not(tmp_path: Path) -> None:
    labels = "['pleural effusion', ' cardiomegaly', 'suture material', '']"
    root = make(
        tmp_path,
        line("a", Labels=labels),
        line("b", Labels=labels, MethodLabel="RNN_model", Projection="AP_horizontal"),
        line("c"),
        line("d", Labels="['unchanged']"),
        line("e", Labels="nan"),
    )
    for name in "abcde":
        add_image(root / f"0/{name}.png")
    found = list(padchest.read(root))
    assert {name for name, value in found[0].labels.items() if value} == {
        "pleural effusion", "cardiomegaly",
    }  # fmt: skip
    assert list(found[0].labels) == list(padchest.CARD.findings)
    assert found[2].labels["normal"] == 1
    assert [item.labels for item in (found[1], found[3], found[4])] == [None] * 3
    first = found[0]
    assert (first.id, first.patient, first.study, first.view) == ("a", "p1", "s1", "PA")
    assert (first.sex, first.age, first.report) == ("F", 84, "sin hallazg patolog .")
    assert found[1].view == "AP_horizontal"


def test_images_lie_in_numbered_folders_or_flat(tmp_path: Path) -> None:
    root = make(tmp_path, *(line(name) for name in "abcd"))
    for place in ("0/a", "images/b", "c"):
        add_image(root / f"{place}.png")
    found = list(padchest.read(root))
    assert [type(item) for item in found] == [Record] * 3 + [Missing]


def test_sixteen_bits_are_stored_and_a_broken_file_is_not(tmp_path: Path) -> None:
    names = [f"image{number}" for number in range(30)]
    root = make(tmp_path, *(line(name, PatientID=name) for name in names))
    for name in names:
        add_image(root / f"0/{name}.png")
    whole = (root / "0/image7.png").read_bytes()
    (root / "0/image7.png").write_bytes(whole[: len(whole) // 2])
    store = prepare(
        "padchest", root, tmp_path / "store", progress=quiet, registry=Registry(), size=32
    )
    summary = store.manifest.summary
    assert (summary.stored, summary.rejected) == (29, 1)
    assert (store[0].image.min(), store[0].image.max()) <= (8, 255)
    assert store[0].image.max() > 240


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageID": "../a.png"},
        {"ImageID": ""},
        {"ImageDir": "../0"},
        {"Labels": "__import__('os').system('x')"},
        {"Labels": "['a'"},
        {"Labels": "[1]"},
        {"Labels": "{'a'}"},
        {"Labels": "[" * 5000},
        {"Labels": "['" + "a" * 20_000 + "']"},
    ],
)
def test_broken_rows_are_rejected_with_their_line(tmp_path: Path, changes: dict[str, str]) -> None:
    root = make(tmp_path, line("a", **changes), line("b"))
    for name in "ab":
        add_image(root / f"0/{name}.png")
    broken, good = padchest.read(root)
    assert isinstance(broken, Rejected)
    assert "line 2 of PADCHEST" in broken.reason
    assert isinstance(good, Record)


def test_unknown_ages_and_sexes_are_none(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        line("a", PatientBirth="", PatientSex_DICOM="O"),
        line("b", PatientBirth="2020"),
        line("c", PatientBirth="old"),
    )
    for name in "abc":
        add_image(root / f"0/{name}.png")
    assert [(item.sex, item.age) for item in padchest.read(root)] == [
        (None, None), ("F", None), ("F", None),
    ]  # fmt: skip


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no table .*PADCHEST"):
        list(padchest.read(tmp_path))
