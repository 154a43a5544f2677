"""Mathematics of the drawing, beside extended precision and by hand."""

import numpy as np
import pytest
from scipy import ndimage

from g2dbench.system.arithmetic import (
    box_mean,
    direction,
    exp,
    exp_of,
    interpolate,
    log,
    power,
    sine_cosine,
    spaced,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("form", [np.float32, np.float64])
def test_exp_is_right_to_two_units_in_the_last_place(form):
    x = RNG.uniform(-79, 79, 20000).astype(form)
    right = np.exp(x.astype(np.longdouble))
    assert exp(x).dtype == form
    assert np.all(np.abs(exp(x) - right) <= 2 * np.spacing(right.astype(form)))
    assert exp(np.array([-1e9, 0.0], dtype=form)).tolist() == [exp(np.array([-80], form))[0], 1.0]
    assert exp_of(1.0) == pytest.approx(2.718281828459045, rel=1e-15)


@pytest.mark.parametrize(("form", "error"), [(np.float32, 2e-7), (np.float64, 4e-16)])
def test_log_and_power(form, error):
    x = np.concatenate([RNG.uniform(0.01, 100, 20000), [1e-30, 1.0]]).astype(form)
    right = np.log(x.astype(np.longdouble))
    assert np.all(np.abs(log(x) - right) <= error * np.maximum(1, np.abs(right)))
    share = RNG.random(20000).astype(form)
    expected = share.astype(np.longdouble) ** np.longdouble(0.42)
    assert np.abs(power(share, 0.42) - expected).max() <= error
    assert power(np.zeros(1, form), 0.42)[0] < 1e-9


def test_sine_and_cosine():
    angle = np.concatenate([RNG.uniform(-20, 20, 20000), np.arange(-8, 9) * np.pi / 2])
    sine, cosine = sine_cosine(angle)
    wide = angle.astype(np.longdouble)
    assert np.abs(sine - np.sin(wide)).max() < 3e-16
    assert np.abs(cosine - np.cos(wide)).max() < 3e-16
    assert direction(0.0) == (1.0, 0.0)


def test_spaced_and_interpolated_by_hand():
    assert spaced(-1, 1, 5).tolist() == [-1, -0.5, 0, 0.5, 1]
    x, y = np.array([0.0, 1.0, 3.0]), np.array([10.0, 20.0, 0.0])
    at = np.array([-1.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    assert interpolate(at, x, y).tolist() == [10, 15, 20, 10, 0, 0]


@pytest.mark.parametrize("size", [3, 18, 19])
def test_box_mean_is_that_of_scipy(size):
    image = RNG.uniform(0, 4, (40, 33)).astype(np.float32)
    expected = ndimage.uniform_filter(image.astype(np.float64), size, mode="nearest")
    assert np.abs(box_mean(image, size) - expected).max() < 2e-6


def test_box_mean_does_not_depend_on_the_order_of_adding():
    image = RNG.uniform(0, 4, (40, 40)).astype(np.float32)
    turned = box_mean(np.ascontiguousarray(image[::-1, ::-1]), 5)[::-1, ::-1]
    np.testing.assert_array_equal(turned, box_mean(image, 5))
