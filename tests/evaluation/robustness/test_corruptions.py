"""Corruptions: each against an independent value, degenerate images, and the same everywhere."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from g2dbench.evaluation.robustness.corruptions import (
    CORRUPTIONS,
    STRENGTHS,
    Condition,
    _draw,
    conditions,
)

ROWS, COLUMNS = np.mgrid[:240, :300]
SMOOTH = (
    128 + 60 * np.sin(ROWS / 17) + 50 * np.cos(COLUMNS / 23) * np.sin(ROWS / 41)
).astype(np.uint8)  # fmt: skip
GRAY = np.full((448, 500), 128, np.uint8)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one.astype(np.float64) - other.astype(np.float64)


def both_directions(name: str, strength: int) -> list[Condition]:
    return [Condition(name, strength, seed) for seed in range(8)]


def test_all_conditions_are_there_once() -> None:
    found = conditions(seed=3)
    assert len(set(found)) == len(found) == 8 * 5
    assert {each.seed for each in found} == {3}
    for name, strength in (("fog", 1), ("noise", 0), ("noise", 6)):
        with pytest.raises(ValueError, match="no corruption"):
            Condition(name, strength)


@pytest.mark.parametrize("condition", conditions(), ids=str)
def test_an_image_stays_gray_and_depends_on_id_and_seed_alone(condition: Condition) -> None:
    before = SMOOTH.copy()
    once, again = condition(SMOOTH, "a"), condition(SMOOTH, "a")
    assert (once.dtype, once.ndim, np.shares_memory(once, SMOOTH)) == (np.uint8, 2, False)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(SMOOTH, before)
    readonly = SMOOTH.copy()
    readonly.setflags(write=False)
    np.testing.assert_array_equal(condition(readonly, "a"), once)


@pytest.mark.parametrize("name", ["noise", "exposure", "rotation", "markers", "cropping"])
def test_other_ids_and_seeds_give_other_random_numbers(name: str) -> None:
    by_id = {Condition(name, 3)(SMOOTH, f"image {n}").tobytes() for n in range(12)}
    by_seed = {each(SMOOTH, "a").tobytes() for each in both_directions(name, 3)}
    assert len(by_id) > 1 < len(by_seed)


@pytest.mark.parametrize("condition", conditions(), ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3), (8, 8)], ids=str)
def test_degenerate_images_have_a_result(condition: Condition, shape: tuple[int, int]) -> None:
    found = condition(np.full(shape, 200, np.uint8), "a")
    assert found.dtype == np.uint8
    assert min(found.shape) >= 1


@pytest.mark.parametrize("name", ["noise", "blur", "exposure", "jpeg", "rotation"])
def test_a_higher_strength_changes_more(name: str) -> None:
    changes = [
        np.abs(difference(Condition(name, s)(SMOOTH, "a"), SMOOTH)).mean() for s in STRENGTHS
    ]
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_has_the_stated_deviation_and_grain(strength: int) -> None:
    level = CORRUPTIONS["noise"].levels[strength - 1]
    added = difference(Condition("noise", strength)(GRAY, "a"), GRAY)
    normal = np.random.default_rng(0).standard_normal(10**6) * 255 * level
    expected = np.clip(128 + normal, 0, 255) - 128
    assert added.std() == pytest.approx(expected.std(), rel=0.02)
    assert added.mean() == pytest.approx(expected.mean(), abs=1)
    # 448 pixels are 224 grains: pairs of rows and columns are equal.
    np.testing.assert_array_equal(added[::2], added[1::2])
    np.testing.assert_array_equal(added[:, ::2], added[:, 1::2])


@pytest.mark.parametrize("strength", STRENGTHS)
def test_blur_is_scipys_gaussian(strength: int) -> None:
    edge = np.zeros((224, 300), np.uint8)
    edge[:, 150:] = 200
    sigma = CORRUPTIONS["blur"].levels[strength - 1]
    expected = ndimage.gaussian_filter(edge.astype(float), sigma, mode="nearest")
    # Pillow approximates the Gaussian by three means over boxes.
    assert np.abs(difference(Condition("blur", strength)(edge, "a"), expected)).max() < 0.03 * 200
    large = np.kron(edge, np.ones((2, 2), np.uint8))
    halved = Condition("blur", strength)(large, "a").reshape(224, 2, 300, 2).mean(axis=(1, 3))
    assert np.abs(difference(halved, expected)).max() < 0.05 * 200  # the same at every size


@pytest.mark.parametrize("strength", STRENGTHS)
def test_exposure_is_gamma_in_both_directions(strength: int) -> None:
    level = CORRUPTIONS["exposure"].levels[strength - 1]
    ramp = np.arange(256, dtype=np.uint8)[None]
    found = {each(ramp, "a").tobytes() for each in both_directions("exposure", strength)}
    expected = {
        np.array([[round(255 * (g / 255) ** gamma) for g in range(256)]], np.uint8).tobytes()
        for gamma in (level, 1 / level)
    }
    assert found == expected


@pytest.mark.parametrize(("strength", "quality"), [(1, 25), (2, 18), (3, 15), (4, 10), (5, 7)])
def test_jpeg_is_one_round_trip(strength: int, quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(SMOOTH).save(file, "JPEG", quality=quality)
    np.testing.assert_array_equal(
        Condition("jpeg", strength)(SMOOTH, "a"), np.asarray(Image.open(file))
    )


@pytest.mark.parametrize("strength", STRENGTHS)
def test_rotation_is_scipys_in_both_directions(strength: int) -> None:
    level = CORRUPTIONS["rotation"].levels[strength - 1]
    inside = np.s_[80:160, 100:200]
    expected = [
        ndimage.rotate(SMOOTH.astype(float), angle, reshape=False, order=1)[inside]
        for angle in (level, -level)
    ]
    matched = set()
    for each in both_directions("rotation", strength):
        found = each(SMOOTH, "a")
        assert found.shape == SMOOTH.shape
        errors = [np.abs(difference(found[inside], wanted)).max() for wanted in expected]
        matched.add(int(np.argmin(errors)))
        assert min(errors) < 2
    assert matched == {0, 1}


@pytest.mark.parametrize("strength", STRENGTHS)
def test_markers_are_white_letters_of_the_stated_height(strength: int) -> None:
    level = CORRUPTIONS["markers"].levels[strength - 1]
    inset, corners = round(0.03 * 448), set()
    for number in range(20):
        marked = Condition("markers", strength)(GRAY, f"image {number}")
        changed = marked != GRAY
        assert (marked[changed] == 255).all()
        for top in (True, False):
            half = changed[:224] if top else changed[224:]
            if half.any():
                rows, columns = (np.flatnonzero(half.any(axis=axis)) for axis in (1, 0))
                assert np.ptp(rows) + 1 == round(level * 448)
                assert (rows[0] if top else 223 - rows[-1]) == inset
                corners |= {(top, "left")} if columns[0] == inset else set()
                corners |= {(top, "right")} if columns[-1] == 499 - inset else set()
    assert len(corners) == 4


def test_letters_can_be_read() -> None:
    found = _draw("RL", 14)
    assert found.shape == (14, 22)
    assert ["".join("#" if cell else "." for cell in row) for row in found[::2, ::2]] == [
        "####..#....",
        "#...#.#....",
        "#...#.#....",
        "####..#....",
        "#.#...#....",
        "#..#..#....",
        "#...#.#####",
    ]


@pytest.mark.parametrize("strength", STRENGTHS)
def test_cropping_is_a_window_of_the_image_anywhere(strength: int) -> None:
    level = CORRUPTIONS["cropping"].levels[strength - 1]
    numbered = (np.arange(100)[:, None] * 2 + np.arange(55)[None]).astype(np.uint8)
    places = set()
    for number in range(40):
        found = Condition("cropping", strength)(numbered, f"image {number}")
        assert found.shape == (round(100 * (1 - level)), round(55 * (1 - level)))
        windows = np.lib.stride_tricks.sliding_window_view(numbered, found.shape)
        same = np.argwhere((windows == found).all(axis=(2, 3)))
        assert len(same) >= 1
        places.add(tuple(same[0]))
    assert len(places) > 5


def test_inversion_exchanges_black_and_white_of_nested_shares_of_the_images() -> None:
    names = [f"image {number}" for number in range(2000)]
    before: set[str] = set()
    for strength, share in zip(STRENGTHS, (0.2, 0.4, 0.6, 0.8, 1), strict=True):
        condition = Condition("inversion", strength)
        affected = {name for name in names if condition.affects(name)}
        assert len(affected) / 2000 == pytest.approx(share, abs=0.04)
        assert before <= affected
        before = affected
        for name in names[:20]:
            wanted = 255 - SMOOTH if name in affected else SMOOTH
            np.testing.assert_array_equal(condition(SMOOTH, name), wanted)
    assert before == set(names)
    assert len({Condition("inversion", s).output for s in STRENGTHS}) == 1


def test_outputs_of_different_images_have_different_names() -> None:
    names = [
        each.output for each in (*conditions(0), *conditions(1)) if each.corruption != "inversion"
    ]
    assert len(set(names)) == len(names) == 2 * 7 * 5


GOLDEN = {
    "noise": 9478387, "blur": 9471529, "exposure": 13776572, "jpeg": 9472960,
    "rotation": 8304936, "markers": 9693176, "cropping": 5696967, "inversion": 8886828,
}  # fmt: skip
"""Sums of gray levels of `SMOOTH` at strength 4, computed on x86-64."""


@pytest.mark.parametrize("name", GOLDEN)
def test_images_are_the_same_on_every_processor(name: str) -> None:
    found = Condition(name, 4)(SMOOTH, "golden")
    band = 1e-3 * found.size if name in ("blur", "rotation", "jpeg") else 0
    assert int(found.sum()) == pytest.approx(GOLDEN[name], abs=band)
