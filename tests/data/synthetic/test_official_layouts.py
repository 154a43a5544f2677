"""Synthetic data sets in the official layouts of RSNA, SIIM-ACR and Open-i."""

import csv
import re
from collections import defaultdict

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from g2dbench.data.synthetic._scene import patient_of
from g2dbench.data.synthetic.official_layouts import (
    encode_runs,
    write_open_i,
    write_rsna,
    write_siim,
)
from g2dbench.data.synthetic.synthetic import generate


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def header(path):
    return path.read_text().split("\n")[0]


def test_rsna_layout_is_the_official_one(tmp_path):
    names = write_rsna(tmp_path, range(40), 128)
    labels = tmp_path / "stage_2_train_labels.csv"
    classes = tmp_path / "stage_2_detailed_class_info.csv"
    assert header(labels) == "patientId,x,y,width,height,Target"
    assert header(classes) == "patientId,class"
    assert {p.stem for p in (tmp_path / "stage_2_train_images").glob("*.dcm")} == set(names)
    kinds = {"Lung Opacity", "No Lung Opacity / Not Normal", "Normal"}
    assert {row[1] for row in rows(classes)[1:]} == kinds
    told = defaultdict(list)
    for name, *box, target in rows(labels)[1:]:
        told[name].append(tuple(float(value) for value in box) if target == "1" else box)
    for name, index in names.items():
        boxes = [b for b in generate(index, 128).boxes if b.finding == "consolidation"]
        expected = [(8 * b.x0, 8 * b.y0, 8 * (b.x1 - b.x0), 8 * (b.y1 - b.y0)) for b in boxes]
        assert told[name] == (expected or [["", "", "", ""]])


def test_rsna_dicom_reads_back_to_the_same_pixels(tmp_path):
    names = write_rsna(tmp_path / "dicom", range(4), 128)
    assert write_rsna(tmp_path / "png", range(4), 128, dicom="png") == names
    for name, index in names.items():
        sample = generate(index, 128)
        file = pydicom.dcmread(tmp_path / "dicom" / "stage_2_train_images" / f"{name}.dcm")
        assert_array_equal(file.pixel_array, sample.image)
        assert file.PhotometricInterpretation == "MONOCHROME2"
        assert (file.PatientID, file.PatientSex, file.ViewPosition) == (
            name,
            sample.sex,
            sample.view,
        )
        assert (file.PatientAge, file.BitsStored) == (str(round(sample.age)), 8)
        with Image.open(tmp_path / "png" / "stage_2_train_images" / f"{name}.png") as image:
            assert_array_equal(np.asarray(image), sample.image)


def decode(code):
    """SIIM's decoder: column-major, each gap counted from the end of the previous run."""
    flat, at = np.zeros(1024 * 1024, dtype=bool), 0
    values = [int(value) for value in code.split()]
    for gap, length in zip(values[::2], values[1::2], strict=True):
        at += gap
        flat[at : at + length] = True
        at += length
    return flat.reshape(1024, 1024).T


def test_siim_layout_is_the_official_one(tmp_path):
    names = write_siim(tmp_path, range(40), 128)
    table = tmp_path / "train-rle.csv"
    assert header(table) == "ImageId, EncodedPixels"
    files = {p.stem: p for p in tmp_path.glob("dicom-images-train/*/*/*.dcm")}
    assert set(files) == set(names)
    codes = defaultdict(list)
    for name, code in rows(table)[1:]:
        codes[name].append(code)
    masks = {name: generate(index, 128).masks.get("pneumothorax") for name, index in names.items()}
    assert any(mask is not None for mask in masks.values())
    for name, mask in masks.items():
        file = pydicom.dcmread(files[name], stop_before_pixels=True)
        assert file.SOPInstanceUID == name
        assert files[name].parts[-3:-1] == (file.StudyInstanceUID, file.SeriesInstanceUID)
        if mask is None:
            assert codes[name] == [" -1"]
        else:
            union = np.any([decode(code) for code in codes[name]], axis=0)
            assert_array_equal(union, mask.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_run_lengths_decode_to_the_mask(density):
    rng = np.random.default_rng(0)
    mask = np.zeros((1024, 1024), dtype=bool)
    mask[1000:, 1010:] = rng.random((24, 14)) < density
    mask[0, 0] = density == 0.3
    assert_array_equal(decode(encode_runs(mask)), mask)


def test_open_i_layout_is_the_official_one(tmp_path):
    names = write_open_i(tmp_path, range(20), 64)
    reports, projections = (tmp_path / f"indiana_{n}.csv" for n in ("reports", "projections"))
    assert header(reports) == "uid,MeSH,Problems,image,indication,comparison,findings,impression"
    assert header(projections) == "uid,filename,projection"
    said = {row[0]: row for row in rows(reports)[1:]}
    for uid, name, projection in rows(projections)[1:]:
        sample = generate(names[name], 64)
        assert projection == "Frontal"
        assert re.fullmatch(rf"{uid}_IM-\d{{4}}-\d+\.dcm\.png", name)
        assert f"Findings: {said[uid][6]} Impression: {said[uid][7]}" == sample.report
        with Image.open(tmp_path / "images" / "images_normalized" / name) as image:
            assert_array_equal(np.asarray(image), sample.image)


@pytest.mark.parametrize("write", [write_rsna, write_siim, write_open_i])
def test_layouts_have_one_image_per_patient(write, tmp_path):
    patients = [patient_of(index)[0] for index in write(tmp_path, range(24), 64).values()]
    assert len(set(patients)) == len(patients) == len({patient_of(i)[0] for i in range(24)})
