"""Each step of the pseudo mask against NumPy, OpenCV and scikit-learn, on random and edge cases."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor

from g2dbench.methods.g2d.pseudo_mask import (
    PseudoMask,
    above_mixture,
    above_percentile,
    bilateral_filter,
    body_mask,
    disc_window,
    histogram,
    otsu,
    outline,
)
from g2dbench.methods.g2d.settings import MaskSettings
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

cv2 = pytest.importorskip("cv2")

IMAGENET = Preprocess(size=64, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def greys(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    peaks = random.integers(0, 256, (count, 1, 1, 2))
    which = random.integers(0, 2, (count, side, side, 1))
    values = np.take_along_axis(np.broadcast_to(peaks, (count, side, side, 2)), which, -1)[..., 0]
    return np.clip(values + random.normal(0, 25, values.shape), 0, 255).astype(np.uint8)


def attention(count: int, heads: int, grid: int, seed: int = 0) -> Tensor:
    logits = torch.randn(count, heads, grid * grid, generator=generator(seed)) * 2
    return logits.softmax(-1).view(count, heads, grid, grid)


@pytest.mark.parametrize("percentile", [0.0, 12.5, 50.0, 75.0, 85.0, 99.9, 100.0])
def test_percentile_is_numpys_quantile_even_with_ties(percentile: float) -> None:
    random = np.random.default_rng(1)
    smooth = random.random((4, 1, 37, 37)).astype(np.float32)
    tied = random.integers(0, 5, (4, 1, 37, 37)).astype(np.float32)
    flat = np.zeros((2, 1, 37, 37), np.float32)
    for scores in (smooth, tied, flat):
        cut = np.quantile(scores, percentile / 100, axis=(2, 3), keepdims=True)
        found = above_percentile(torch.from_numpy(scores), percentile).numpy()
        np.testing.assert_array_equal(found, scores > cut)


@pytest.mark.parametrize("heads", ["mean", "separate"])
def test_the_threshold_of_a_batch_is_one_for_all_images(heads: str) -> None:
    settings = MaskSettings.model_validate(
        {"threshold": "batch", "percentile": 90, "heads": heads, "body": "none",
         "smoothing": "none", "upsampling": "nearest"}
    )  # fmt: skip
    scores = attention(6, 3, 8)
    scores[2] = 1 / 64  # uniform attention: no peak, so no mask
    found = PseudoMask(settings, IMAGENET)(scores, torch.zeros(6, 3, 64, 64)) > 0.5
    maps = scores.mean(1, keepdim=True) if heads == "mean" else scores
    for head in range(maps.shape[1]):
        cut = np.quantile(maps[:, head].repeat_interleave(8, 1).repeat_interleave(8, 2), 0.9)
        large = (maps[:, head] > cut).repeat_interleave(8, 1).repeat_interleave(8, 2)
        assert torch.equal(found[:, head], large)
    assert not found[2].any()
    assert found[0].any()


def test_percentile_works_on_a_single_pixel() -> None:
    assert not above_percentile(torch.ones(1, 1, 1, 1), 85).any()


def test_otsu_is_opencvs() -> None:
    images = np.concatenate(
        [greys(30, 48), np.random.default_rng(2).integers(0, 256, (10, 48, 48))]
    )
    found = otsu(torch.from_numpy(images.astype(np.int64))).tolist()
    wanted = [cv2.threshold(i.astype(np.uint8), 0, 255, cv2.THRESH_OTSU)[0] for i in images]
    assert found == wanted


def test_otsu_splits_two_values_and_a_single_value_is_body_unless_black() -> None:
    two = torch.tensor([[[10, 10], [200, 10]]])
    assert body_mask(two).tolist() == [[[False, False], [True, False]]]
    assert body_mask(torch.full((1, 4, 4), 128)).all()
    assert body_mask(torch.full((1, 4, 4), 255)).all()
    assert not body_mask(torch.zeros(1, 4, 4, dtype=torch.int64)).any()


def test_histogram_is_numpys() -> None:
    values = np.random.default_rng(3).integers(0, 256, (3, 500))
    wanted = np.stack([np.bincount(row, minlength=256) for row in values])
    np.testing.assert_array_equal(histogram(torch.from_numpy(values)).numpy(), wanted)


def test_outline_fills_rows_between_first_and_last() -> None:
    body = torch.tensor([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]).bool()
    wanted = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]).bool()
    assert torch.equal(outline(body[None]), wanted[None])


@pytest.mark.parametrize(("radius", "space", "range_"), [(3, 2.0, 0.5), (6, 4.0, 1.0), (9, 3, 0.3)])
def test_bilateral_is_opencvs_up_to_the_border(radius: int, space: float, range_: float) -> None:
    random = np.random.default_rng(4)
    blocks = np.kron(random.integers(0, 2, (3, 6, 7)), np.ones((1, 8, 8))).astype(np.float32)
    noise = (random.random((2, 48, 56)) > 0.8).astype(np.float32)
    masks = np.concatenate([blocks, noise])
    found = bilateral_filter(torch.from_numpy(masks)[:, None], disc_window(space, radius), range_)
    for mask, out in zip(masks, found[:, 0].numpy(), strict=True):
        wanted = cv2.bilateralFilter(
            mask, 2 * radius + 1, range_, space, borderType=cv2.BORDER_REFLECT_101
        )
        np.testing.assert_allclose(out, wanted, atol=1e-5)


def test_bilateral_does_not_change_empty_and_full_masks() -> None:
    both = torch.stack([torch.zeros(1, 20, 20), torch.ones(1, 20, 20)])
    torch.testing.assert_close(bilateral_filter(both, disc_window(2, 3), 1.0), both)


def test_mixture_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(5)
    high = random.random((4, 40, 40)) < 0.25
    scores = np.where(high, random.normal(6, 0.8, high.shape), random.normal(2, 1, high.shape))
    found = above_mixture(torch.from_numpy(scores.astype(np.float32))[:, None])[:, 0].numpy()
    for map_, mask in zip(scores, found, strict=True):
        fit = GaussianMixture(2, tol=1e-8, max_iter=1000, random_state=0).fit(map_.reshape(-1, 1))
        wanted = fit.predict(map_.reshape(-1, 1)).reshape(map_.shape) == fit.means_.argmax()
        assert (wanted == mask).mean() > 0.995


def test_mixture_of_a_constant_map_is_empty() -> None:
    assert not above_mixture(torch.full((2, 1, 8, 8), 0.25)).any()


def test_the_released_mask_is_available_as_a_setting() -> None:
    code = MaskSettings(upsampling="nearest", body="none", smoothing="none")
    given = attention(5, 4, 8)
    found = PseudoMask(code, IMAGENET)(given, torch.randn(5, 3, 64, 64))[:, 0].numpy()
    mean = given.mean(1).numpy().repeat(8, 1).repeat(8, 2)
    np.testing.assert_array_equal(found, mean > np.quantile(mean, 0.85, (1, 2), keepdims=True))


@pytest.mark.parametrize("heads", ["mean", "separate"])
@pytest.mark.parametrize("body", ["otsu", "outline", "none"])
@pytest.mark.parametrize("threshold", ["percentile", "mixture"])
@pytest.mark.parametrize("smoothing", ["bilateral", "none"])
def test_every_combination_gives_masks_between_0_and_1(
    heads: str, body: str, threshold: str, smoothing: str
) -> None:
    settings = MaskSettings.model_validate(
        {"heads": heads, "body": body, "threshold": threshold, "smoothing": smoothing}
    )
    images = torch.rand(2, 3, 64, 64, generator=generator())
    mask = PseudoMask(settings, IMAGENET)(attention(2, 3, 2), images)
    assert mask.shape == (2, 1 if heads == "mean" else 3, 64, 64)
    assert mask.dtype == torch.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask.any()


def test_attention_outside_the_body_does_not_count() -> None:
    grey = np.zeros((64, 64), np.uint8)
    grey[:, 32:] = 200
    given = torch.zeros(1, 1, 2, 2)
    given[0, 0, 0, 0], given[0, 0, 1, 1] = 0.7, 0.3
    only = MaskSettings(upsampling="nearest", smoothing="none", body="otsu", percentile=70)
    mask = PseudoMask(only, IMAGENET)(given, IMAGENET(grey)[None])[0, 0]
    assert mask[32:, 32:].all()
    assert mask.sum() == 32 * 32


def test_normalization_is_undone_before_the_histogram() -> None:
    grey = greys(1, 64)[0]
    plain, body = Preprocess(size=64), MaskSettings(body="otsu")
    given = attention(1, 3, 2)
    masks = [PseudoMask(body, p)(given, p(grey)[None]) for p in (plain, IMAGENET)]
    assert torch.equal(*masks)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_give_finite_masks(value: float) -> None:
    images = torch.full((1, 3, 64, 64), value)
    mask = PseudoMask(MaskSettings(), Preprocess(size=64))(attention(1, 3, 2), images)
    assert mask.isfinite().all()
    assert bool(mask.any()) == (value > 0)


def test_flat_attention_inside_no_body_is_an_empty_mask() -> None:
    flat = torch.full((1, 3, 2, 2), 0.25)
    mask = PseudoMask(MaskSettings(body="none"), IMAGENET)(flat, torch.zeros(1, 3, 64, 64))
    assert not mask.any()


def test_an_images_mask_depends_on_no_other_image() -> None:
    images = torch.rand(6, 3, 64, 64, generator=generator())
    given = attention(6, 3, 4)
    step = PseudoMask(MaskSettings(), IMAGENET)
    alone = torch.cat([step(given[i : i + 1], images[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(step(given, images), alone, rtol=0, atol=1e-6)


def test_shuffled_masks_are_all_displaced() -> None:
    images = torch.rand(4, 3, 64, 64, generator=generator())
    given = attention(4, 3, 4)
    own = PseudoMask(MaskSettings(), IMAGENET)(given, images)
    moved = PseudoMask(MaskSettings(pairing="shuffled"), IMAGENET)(given, images)
    assert torch.equal(moved, own[[3, 0, 1, 2]])
    assert not torch.equal(own[0], own[3])


def test_no_gradient_and_no_stored_weights() -> None:
    given = attention(2, 3, 2).requires_grad_()
    step = PseudoMask(MaskSettings(), IMAGENET)
    assert not step(given, torch.rand(2, 3, 64, 64)).requires_grad
    assert not step.state_dict()
    assert not list(step.parameters())


def test_bf16_autocast_does_not_change_the_mask() -> None:
    images = torch.rand(2, 3, 64, 64, generator=generator())
    step, given = PseudoMask(MaskSettings(), IMAGENET), attention(2, 3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = step(given, images)
    assert torch.equal(mixed, step(given, images))
