"""Options of MIMIC-CXR: location of the reports and labeler, also on the command line."""

import gzip
import shutil
from pathlib import Path

import pytest
from support.data.mimic import IMAGES, LABELS, REPORTS, images_root, write, write_zip

from g2dbench.cards import DatasetCard, ModelCard
from g2dbench.data.prepare import find_store, prepare
from g2dbench.data.readers import mimic_cxr
from g2dbench.errors import Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Record

REGISTRY = Registry()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The images' project with both labelers' tables, and no reports near it."""
    made = images_root(tmp_path / "disk/one/two/jpg")
    rows = ["10000001,50000001,0.0,1.0,,-1.0,,,,,,,,,,", "11000001,50000003,,1.0,,,,,,,,,,,,"]
    write(made / "mimic-cxr-2.0.0-negbio.csv.gz", LABELS, rows)
    return made


def by_letter(root: Path, **options: str) -> dict[str, Record]:
    return {item.id[0]: item for item in mimic_cxr.read(root, options)}


def test_reports_are_read_where_the_option_says(root: Path, tmp_path: Path) -> None:
    project = tmp_path / "elsewhere/mimic-cxr/2.0.0"
    zipped = project / "mimic-cxr-reports.zip"
    write_zip(zipped, REPORTS)
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(zipped, unpacked)
    for place in (zipped, project, unpacked, unpacked / "files"):
        found = by_letter(root, reports=str(place))
        assert {letter: found[letter].report for letter in "acde"} == {
            letter: REPORTS[f"files/p{i[1][:2]}/p{i[1]}/s{i[0]}.txt"]
            for letter, i in IMAGES.items()
            if letter != "b"
        }


def test_the_option_goes_before_reports_nearby(root: Path, tmp_path: Path) -> None:
    write_zip(root / "mimic-cxr-reports.zip", dict.fromkeys(REPORTS, "near"))
    write_zip(tmp_path / "far.zip", dict.fromkeys(REPORTS, "far"))
    assert by_letter(root)["a"].report == "near"
    assert by_letter(root, reports=str(tmp_path / "far.zip"))["a"].report == "far"


def test_negbio_labels_are_a_choice(root: Path) -> None:
    (root / "mimic-cxr-reports").mkdir()
    assert by_letter(root)["a"].labels == {
        "Atelectasis": 1, "Cardiomegaly": 0, "Consolidation": -1, "Lung Opacity": 1,
    }  # fmt: skip
    found = by_letter(root, labels="negbio")
    assert found["a"].labels == {"Atelectasis": 0, "Cardiomegaly": 1, "Edema": -1}
    assert found["d"].labels == {"Cardiomegaly": 1}
    assert found["e"].labels is None


def test_options_that_name_nothing_are_misuse(root: Path, tmp_path: Path) -> None:
    (root / "mimic-cxr-reports").mkdir()
    for options, said in (
        ({"labels": "chexbert"}, "chexpert, negbio"),
        ({"reports": str(tmp_path / "none.zip")}, "no zip or folder"),
    ):
        with pytest.raises(Misuse, match=said):
            list(mimic_cxr.read(root, options))
    with pytest.raises(Misuse, match="option of 'mimic_cxr'"):
        prepare(
            "mimic_cxr", root, tmp_path / "s",
            progress=quiet, registry=REGISTRY, options={"report": "x"},
        )  # fmt: skip


def test_options_make_stores_of_their_own(root: Path, tmp_path: Path) -> None:
    (root / "mimic-cxr-reports").mkdir()
    words = {"progress": quiet, "registry": REGISTRY, "size": 32}
    one = prepare("mimic_cxr", root, tmp_path / "s", **words)
    other = prepare("mimic_cxr", root, tmp_path / "s", options={"labels": "negbio"}, **words)
    assert one.folder != other.folder
    assert one.fingerprint != other.fingerprint
    assert find_store("mimic_cxr", root, tmp_path / "empty") is None


def test_a_missing_labelers_table_is_named(root: Path) -> None:
    (root / "mimic-cxr-reports").mkdir()
    (root / "mimic-cxr-2.0.0-negbio.csv.gz").write_bytes(gzip.compress(b"subject_id,study_id\n"))
    with pytest.raises(ValueError, match="negbio"):
        list(mimic_cxr.read(root, {"labels": "negbio"}))


def test_models_name_what_they_saw_as_its_card_does() -> None:
    names = {card.name for card in REGISTRY.cards(DatasetCard)}
    plain = {name.replace("_", "").replace("-", ""): name for name in names}
    for card in REGISTRY.cards(ModelCard):
        for seen in card.trained_on:
            known = plain.get(seen.lower().replace("_", "").replace("-", ""))
            assert known in (None, seen), f"{card.name}: {seen!r} is called {known!r}"
