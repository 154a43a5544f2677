"""Synthetic radiographs: reproducible images, masks and boxes, patients and labels."""

from collections import defaultdict

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from g2dbench.data.synthetic._scene import patient_of, split_of
from g2dbench.data.synthetic.synthetic import CARD, boxes_of, generate, generate_many
from g2dbench.errors import Misuse

LARGE = ("consolidation", "pleural effusion", "pneumothorax", "cardiomegaly")


@pytest.fixture(scope="module")
def samples():
    return list(generate_many(range(60), 128))


def assert_same(one, other):
    assert_array_equal(one.image, other.image)
    assert one.masks.keys() == other.masks.keys()
    for finding, mask in one.masks.items():
        assert_array_equal(mask, other.masks[finding])
    fields = ("id", "patient", "study", "view", "sex", "age", "split", "report", "labels", "boxes")
    assert all(getattr(one, field) == getattr(other, field) for field in fields)


@pytest.mark.parametrize("index", [0, 2, 33])
def test_same_seed_and_index_give_the_same_bits(index):
    assert_same(generate(index, 96, seed=3), generate(index, 96, seed=3))


def test_another_seed_or_index_gives_another_image():
    base = generate(5, 64).image
    assert not np.array_equal(base, generate(5, 64, seed=1).image)
    assert not np.array_equal(base, generate(6, 64).image)


def test_workers_and_order_do_not_change_an_image():
    indices = [7, 3, 12, 0]
    serial = [generate(index, 64) for index in indices]
    for one, other in zip(serial, generate_many(indices, 64, workers=2), strict=True):
        assert_same(one, other)


def test_every_size_shows_the_same_scene(samples):
    for index in range(30):
        small = generate(index, 64)
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
        coarse, fine = generate(index, 64).masks, generate(index, 256).masks
        for finding in set(LARGE) & set(fine):
            up = coarse[finding].repeat(4, 0).repeat(4, 1)
            assert (up & fine[finding]).sum() / (up | fine[finding]).sum() > 0.6, (index, finding)


def test_sizes_100_and_1024_can_be_generated():
    for size in (100, 1024):
        sample = generate(2, size)
        assert sample.image.shape == (size, size)
        assert all(mask.shape == (size, size) for mask in sample.masks.values())


@pytest.mark.parametrize(("index", "size"), [(-1, 128), (0, 63), (0, 1025)])
def test_impossible_requests_name_the_limits(index, size):
    with pytest.raises(Misuse, match="64 and 1024"):
        generate(index, size)


def test_labels_masks_and_boxes_agree(samples):
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


def test_patient_of_an_index_does_not_depend_on_other_indices():
    for index in range(100):
        patient, first, visit = patient_of(index, seed=4)
        assert first + visit == index
        assert patient_of(first, seed=4)[0] == patient


def test_findings_have_the_documented_frequencies(scenes):
    normal = sum(not scene.findings for scene in scenes) / len(scenes)
    assert 0.28 < normal < 0.42
    for finding in CARD.findings:
        assert 0.11 < sum(finding in s.findings for s in scenes) / len(scenes) < 0.26, finding
