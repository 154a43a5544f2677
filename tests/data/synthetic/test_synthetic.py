"""The embedded radiographs: what they promise, and their official layouts."""

import csv
import re
from collections import defaultdict

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy import ndimage

from g2dbench.data.synthetic._report import sections, write_report
from g2dbench.data.synthetic._scene import draw_scene, patient_of, split_of
from g2dbench.data.synthetic.official_layouts import (
    encode_runs,
    write_open_i,
    write_rsna,
    write_siim,
)
from g2dbench.data.synthetic.synthetic import CARD, boxes_of, draw, draw_many
from g2dbench.errors import Misuse

LARGE = ("consolidation", "pleural effusion", "pneumothorax", "cardiomegaly")
SCENES = 1500


@pytest.fixture(scope="module")
def samples():
    return list(draw_many(range(60), 128))


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(index) for index in range(SCENES)]


def assert_same(one, other):
    assert_array_equal(one.image, other.image)
    assert one.masks.keys() == other.masks.keys()
    for finding, mask in one.masks.items():
        assert_array_equal(mask, other.masks[finding])
    fields = ("id", "patient", "study", "view", "sex", "age", "split", "report", "labels", "boxes")
    assert all(getattr(one, field) == getattr(other, field) for field in fields)


@pytest.mark.parametrize("index", [0, 2, 33])
def test_same_seed_and_index_give_the_same_bits(index):
    assert_same(draw(index, 96, seed=3), draw(index, 96, seed=3))


def test_another_seed_or_index_gives_another_image():
    base = draw(5, 64).image
    assert not np.array_equal(base, draw(5, 64, seed=1).image)
    assert not np.array_equal(base, draw(6, 64).image)


def test_workers_and_order_do_not_change_an_image():
    indices = [7, 3, 12, 0]
    serial = [draw(index, 64) for index in indices]
    for one, other in zip(serial, draw_many(indices, 64, workers=2), strict=True):
        assert_same(one, other)


def test_every_size_shows_the_same_scene(samples):
    for index in range(30):
        small = draw(index, 64)
        assert (small.report, small.labels) == (samples[index].report, samples[index].labels)
        for finding in small.masks:
            fine = samples[index].masks[finding]
            coarse = small.masks[finding].repeat(2, 0).repeat(2, 1)
            if finding in LARGE and fine.sum() > 400:
                assert (fine & coarse).sum() / (fine | coarse).sum() > 0.6, (index, finding)
            nearby = ndimage.binary_dilation(fine, iterations=4)
            assert (coarse & nearby).any(), (index, finding)


def test_masks_of_64_and_256_agree():
    for index in (2, 4, 6, 12):
        coarse, fine = draw(index, 64).masks, draw(index, 256).masks
        for finding in set(LARGE) & set(fine):
            up = coarse[finding].repeat(4, 0).repeat(4, 1)
            assert (up & fine[finding]).sum() / (up | fine[finding]).sum() > 0.6, (index, finding)


def test_size_100_and_1024_are_drawn():
    for size in (100, 1024):
        sample = draw(2, size)
        assert sample.image.shape == (size, size)
        assert all(mask.shape == (size, size) for mask in sample.masks.values())


@pytest.mark.parametrize(("index", "size"), [(-1, 128), (0, 63), (0, 1025)])
def test_impossible_requests_name_the_limits(index, size):
    with pytest.raises(Misuse, match="64 and 1024"):
        draw(index, size)


def test_labels_masks_and_boxes_tell_the_same(samples):
    for sample in samples:
        assert tuple(sample.labels) == CARD.findings
        assert set(sample.masks) == {name for name, value in sample.labels.items() if value}
        for finding, mask in sample.masks.items():
            assert mask.dtype == bool
            assert mask.any(), (sample.id, finding)
            union = np.zeros_like(mask)
            for box in (b for b in sample.boxes if b.finding == finding):
                assert_tight(box, mask)
                union[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = True
            assert not (mask & ~union).any()


def assert_tight(box, mask):
    x0, y0, x1, y1 = (int(value) for value in box[1:])
    inner = mask[y0:y1, x0:x1]
    assert inner.shape == (y1 - y0, x1 - x0)
    assert inner[0].any()
    assert inner[-1].any()
    assert inner[:, 0].any()
    assert inner[:, -1].any()


def test_boxes_of_two_parts_by_hand():
    mask = np.zeros((8, 8), dtype=bool)
    mask[1:3, 1:4] = True
    mask[3, 4] = True
    mask[6, 7] = True
    assert [box[1:] for box in boxes_of("nodule", mask)] == [(1, 1, 5, 4), (7, 6, 8, 7)]
    assert boxes_of("nodule", np.zeros((8, 8), dtype=bool)) == ()


def test_images_use_the_grey_scale(samples):
    for sample in samples:
        assert sample.image.dtype == np.uint8
        assert sample.image.std() > 25
        assert 60 < sample.image.mean() < 225


def test_patients_do_not_cross_splits_and_keep_sex_and_age(scenes):
    people = defaultdict(list)
    for scene in scenes:
        people[scene.patient].append(scene)
    assert {len(images) for images in people.values()} == {1, 2, 3}
    for patient, images in people.items():
        assert len({(s.sex, s.age, s.body.seed, split_of(s.patient)) for s in images}) == 1, patient
        assert len({s.study for s in images}) == len(images)
    shares = [split_of(patient) for patient in people]
    for split, expected in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        assert shares.count(split) / len(shares) == pytest.approx(expected, abs=0.05)


def test_patient_of_an_index_is_found_without_its_neighbours():
    for index in range(100):
        patient, first, visit = patient_of(index, seed=4)
        assert first + visit == index
        assert patient_of(first, seed=4)[0] == patient


def test_findings_are_as_frequent_as_promised(scenes):
    normal = sum(not scene.findings for scene in scenes) / SCENES
    assert 0.28 < normal < 0.42
    for finding in CARD.findings:
        assert 0.11 < sum(finding in s.findings for s in scenes) / SCENES < 0.26, finding


MENTIONS = {
    "consolidation": r"consolidat|pneumonia|airspace|infiltrat",
    "pleural effusion": r"effusion|pleural fluid|costophrenic",
    "pneumothorax": r"pneumothorax",
    "nodule": r"nodul",
    "cardiomegaly": r"heart|cardiac|cardiomegaly|cardiomediastinal",
    "atelectasis": r"atelecta|collapse|volume loss",
    "foreign object": r"foreign|coin|button|necklace|clip|safety pin",
}
DENIAL = re.compile(
    r"^no |there is no |^negative|without |within normal limits|is normal|normal in size"
    r"|heart size normal|not enlarged|angles are sharp|are clear|and clear|^clear lungs"
)
DOUBT = re.compile(r"possible|may represent|cannot be excluded|not excluded|questionable|suspected")
LUCENCY = "lucency without vascular markings"


def stances(report):
    """Finding -> set of "yes", "no", "doubt" that the sentences of a report take."""
    found = defaultdict(set)
    for sentence in re.split(r"(?<=\.) ", " ".join(sections(report)).lower()):
        plain = sentence.replace(LUCENCY, "lucency")
        kind = "doubt" if DOUBT.search(plain) else "no" if DENIAL.search(plain) else "yes"
        names = [name for name, words in MENTIONS.items() if re.search(words, plain)]
        if kind == "no" and re.search(r"lungs.* clear|^clear lungs", plain):
            names = [name for name in MENTIONS if name not in ("cardiomegaly", "foreign object")]
        for name in names:
            found[name].add(kind)
    return found


def test_reports_never_contradict_the_image(scenes):
    silent = present = doubted = 0
    for scene in scenes:
        said = stances(write_report(scene))
        for finding in CARD.findings:
            stance = said.get(finding, set())
            if finding in scene.findings:
                assert "no" not in stance, (finding, write_report(scene))
                present += 1
                silent += not stance
                doubted += stance == {"doubt"}
            else:
                assert stance <= {"no"}, (finding, write_report(scene))
    assert 0.04 < silent / present < 0.13
    assert 0.04 < doubted / present < 0.13


def test_reports_of_findings_do_not_call_the_chest_normal(scenes):
    for scene in scenes:
        impression = sections(write_report(scene))[1].lower()
        overall = re.search(r"normal chest|no acute (cardio|disease)|other acute", impression)
        assert bool(overall) == (not scene.findings)


def test_reports_vary_and_are_as_long_as_real_ones(scenes):
    reports = [write_report(scene) for scene in scenes]
    counts = [len(sections(report)[0].split(". ")) for report in reports]
    assert len(set(reports)) > 0.97 * SCENES
    assert 30 < np.median([len(report.split()) for report in reports]) < 55
    assert min(counts) >= 3
    assert np.mean([count <= 7 for count in counts]) > 0.95
    assert sum("pneumonia" in report.lower() for report in reports) > 0.2 * SCENES
    assert not any("{" in report or "  " in report for report in reports)


def test_side_in_the_report_is_the_patients_side(scenes):
    for scene in scenes:
        for item in scene.findings.get("pneumothorax", ()):
            said = re.findall(r"[^.]*pneumothorax[^.]*\.", write_report(scene), re.IGNORECASE)
            other = "left" if item.side == "right" else "right"
            assert not any(other in sentence.lower() for sentence in said)
    sides = [
        (s, s.findings["pneumothorax"][0].side) for s in scenes if "pneumothorax" in s.findings
    ]
    for scene, side in sides[:6]:
        columns = np.nonzero(draw(scene.key[1], 64).masks["pneumothorax"])[1]
        assert (columns.mean() < 32) == (side == "right")


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
        boxes = [b for b in draw(index, 128).boxes if b.finding == "consolidation"]
        expected = [(8 * b.x0, 8 * b.y0, 8 * (b.x1 - b.x0), 8 * (b.y1 - b.y0)) for b in boxes]
        assert told[name] == (expected or [["", "", "", ""]])


def test_rsna_dicom_reads_back_to_the_same_pixels(tmp_path):
    names = write_rsna(tmp_path / "dicom", range(4), 128)
    assert write_rsna(tmp_path / "png", range(4), 128, dicom="png") == names
    for name, index in names.items():
        sample = draw(index, 128)
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
    """SIIM's own reading: each gap counts from the end of the run before, down the columns."""
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
    masks = {name: draw(index, 128).masks.get("pneumothorax") for name, index in names.items()}
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
        sample = draw(names[name], 64)
        assert projection == "Frontal"
        assert re.fullmatch(rf"{uid}_IM-\d{{4}}-\d+\.dcm\.png", name)
        assert f"Findings: {said[uid][6]} Impression: {said[uid][7]}" == sample.report
        with Image.open(tmp_path / "images" / "images_normalized" / name) as image:
            assert_array_equal(np.asarray(image), sample.image)


@pytest.mark.parametrize("write", [write_rsna, write_siim, write_open_i])
def test_layouts_have_one_image_per_patient(write, tmp_path):
    patients = [patient_of(index)[0] for index in write(tmp_path, range(24), 64).values()]
    assert len(set(patients)) == len(patients) == len({patient_of(i)[0] for i in range(24)})
