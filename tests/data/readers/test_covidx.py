"""COVIDx: the lists of its releases, and its official splits."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.data.official_layouts import save_image, write

from g2dbench.data.readers import (
    covidx,
)
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record


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


def test_covidx_reports_invalid_lines_and_requires_a_release(tmp_path: Path) -> None:
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
