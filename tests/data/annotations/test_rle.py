"""Run-length masks: worked examples, round trips, pycocotools, and malicious strings."""

import numpy as np
import pytest
from pycocotools import mask as coco

from g2dbench.data.annotations import rle
from g2dbench.errors import BadResult


def random_masks(seed, count=40):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = tuple(rng.integers(1, 40, 2))
        yield rng.random(size) < rng.choice([0, 0.02, 0.5, 0.98, 1])


def test_pixels_are_taken_column_by_column():
    mask = np.array([[False, True], [True, True]])
    assert rle.encode(mask) == "13"
    assert rle.parse_runs("13", (2, 2)).tolist() == [1, 3]
    assert np.array_equal(rle.decode("13", (2, 2)), mask)


def test_from_the_fourth_run_on_differences_to_the_run_two_before_are_written():
    # runs 1 1 2 4 1: written 1 1 2 (4-1) (1-2 = -1, five bits 11111 = 'O')
    assert rle.parse_runs("1123O", (3, 3)).tolist() == [1, 1, 2, 4, 1]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 200), (1024, 1024)])
def test_empty_and_full_masks(size):
    for mask in (np.zeros(size, bool), np.ones(size, bool)):
        text = rle.encode(mask)
        assert np.array_equal(rle.decode(text, size), mask)
        assert rle.area(text, size) == mask.sum()
        assert rle.overlap(text, text, size) == (mask.sum(),) * 3


@pytest.mark.parametrize("seed", range(4))
def test_strings_equal_those_of_pycocotools_and_round_trip(seed):
    for mask in random_masks(seed):
        text = rle.encode(mask)
        theirs = {"size": list(mask.shape), "counts": text.encode()}
        assert np.array_equal(coco.decode(theirs).astype(bool), mask)
        assert np.array_equal(rle.decode(text, mask.shape), mask)
        assert rle.area(text, mask.shape) == coco.area(theirs) == mask.sum()


def test_long_runs_round_trip():
    mask = np.zeros((4096, 4096), bool)
    mask[5:9, 2000:2100] = True
    assert np.array_equal(rle.decode(rle.encode(mask), mask.shape), mask)


@pytest.mark.parametrize("seed", range(4))
def test_overlap_without_decoding_equals_counting_pixels(seed):
    rng = np.random.default_rng(seed)
    for mask in random_masks(seed):
        other = (rng.random(mask.shape) < 0.5) if rng.random() < 0.7 else mask
        found = rle.overlap(rle.encode(mask), rle.encode(other), mask.shape)
        assert found == ((mask & other).sum(), mask.sum(), other.sum())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("5/", "characters"),
        ("5p", "characters"),
        ("9é", "characters"),
        ("9\ud800", "characters"),
        ("9\x00", "characters"),
        ("P", "breaks off"),
        ("13P", "breaks off"),
        ("oooooooo0", "too large"),
        ("3", "covers 3 pixels"),
        ("5", "covers 5 pixels"),
        ("133", "covers 7 pixels"),
        ("PPPPP1", "covers"),
        ("Q03", "more characters"),
        ("1oO", "more characters"),
        ("O5", "without pixels"),
        ("103", "without pixels"),
        ("1O4", "without pixels"),
        ("111O1", "without pixels"),
        ("1" * 6, "more than 4 pixels"),
        ("1" * 31, "no longer than"),
        (None, "must be a string"),
        (b"13", "must be a string"),
    ],
)
def test_hostile_strings_are_refused_with_the_reason(text, message):
    for read in (rle.parse_runs, rle.decode, rle.area):
        with pytest.raises(BadResult, match=message):
            read(text, (2, 2))
    with pytest.raises(BadResult, match=message):
        rle.overlap("13", text, (2, 2))


@pytest.mark.parametrize(
    "size", [(0, 4), (-2, -2), (2,), (2, 2, 1), (2.0, 2), (1 << 20, 1 << 20), ("2", "2")]
)
def test_hostile_sizes_are_refused_before_anything_is_built(size):
    with pytest.raises(BadResult, match="size"):
        rle.decode("13", size)


def test_random_strings_raise_nothing_but_bad_result():
    rng = np.random.default_rng(0)
    letters = [*"01234567PQRSno"]
    accepted = 0
    for _ in range(8000):
        text = "".join(rng.choice(letters, rng.integers(1, 6)))
        try:
            mask = rle.decode(text, (3, 4))
        except BadResult:
            continue
        accepted += 1
        assert rle.encode(mask) == text
    assert accepted > 20


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2), int), np.zeros(4, bool), np.zeros((1, 2, 2), bool)]
)
def test_only_boolean_arrays_of_two_dimensions_are_encoded(mask):
    with pytest.raises(ValueError, match="boolean"):
        rle.encode(mask)
