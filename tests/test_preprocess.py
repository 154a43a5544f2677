"""Preprocessing and its geometry: mapping there and back within half a pixel, NaN outside."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SHAPES = [(100, 160), (160, 100), (64, 64), (511, 333), (260, 300), (131, 97)]
FITS = [
    Preprocess(size=64),
    Preprocess(size=64, fit="crop"),
    Preprocess(size=56, fit="crop", resize=64),
    Preprocess(size=64, fit="pad"),
    Preprocess(size=56, fit="pad", resize=64),
]


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_equals_torchvision(shape: tuple[int, int]) -> None:
    image = random_image(*shape)
    ours = Preprocess(size=56, fit="crop", resize=64, mean=IMAGENET_MEAN, std=IMAGENET_STD)(image)
    theirs = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )(Image.fromarray(image).convert("RGB"))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_stretch_equals_pillow() -> None:
    image = random_image(100, 160)
    ours = Preprocess(size=48, channels=1)(image)[0].numpy() * 255
    theirs = np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_mapped_back_within_half_a_pixel(fit: Preprocess, shape: tuple[int, int]) -> None:
    height, width = shape
    geometry = fit.geometry(height, width)
    middle = np.array([[width * 0.4, height * 0.4, width * 0.6, height * 0.6]])
    back = geometry.boxes_to_image(geometry.boxes_to_input(middle))
    np.testing.assert_allclose(back, middle, atol=0.5)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_is_mapped_like_its_box(fit: Preprocess, shape: tuple[int, int]) -> None:
    height, width = shape
    mask = np.zeros(shape, bool)
    y0, y1, x0, x1 = height * 2 // 5, height * 3 // 5, width * 2 // 5, width * 3 // 5
    mask[y0:y1, x0:x1] = True
    geometry = fit.geometry(height, width)
    rows, columns = np.nonzero(geometry.mask_to_input(mask))
    box = geometry.boxes_to_input(np.array([[x0, y0, x1, y1]], float))[0]
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, box, atol=1.0)


@pytest.mark.parametrize("fit", FITS)
def test_a_map_is_mapped_back_to_its_pixels(fit: Preprocess) -> None:
    height, width = 160, 100
    geometry = fit.geometry(height, width)
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None].repeat(height, 0)
    image = (ramp * 255).astype(np.uint8)
    grid = fit(image)[0].numpy()
    back = geometry.map_to_image(grid)
    seen = ~np.isnan(back)
    seen[:, [0, 1, 2, -3, -2, -1]] = False  # the outermost cells blend with the padding
    assert seen.any()
    assert np.abs(back - ramp)[seen].max() < 0.04


def test_a_map_is_nan_outside_the_crop() -> None:
    geometry = Preprocess(size=64, fit="crop").geometry(64, 128)
    back = geometry.map_to_image(np.ones((4, 4)))
    assert np.isnan(back[:, :31]).all()
    assert (back[:, 33:95] == 1).all()


def test_minmax_stretches_gray_levels_and_accepts_a_constant_image() -> None:
    fit = Preprocess(size=8, channels=1, intensity="minmax")
    image = np.full((8, 8), 100, np.uint8)
    assert fit(image).abs().max() == 0
    image[0, 0], image[0, 1] = 50, 200
    assert fit(image).min() == 0
    assert fit(image).max() == 1


def test_padding_is_black_before_normalization() -> None:
    image = np.full((32, 64), 255, np.uint8)
    out = Preprocess(size=64, fit="pad", channels=1)(image)[0]
    assert (out[:16] == 0).all()
    assert (out[16:48] == 1).all()


@pytest.mark.parametrize("narrow", [200, 201, 225, 226, 227, 229, 255, 256])
def test_an_image_padded_beyond_its_input_is_cropped_where_its_square_is(narrow: int) -> None:
    """Padding to 256 with the odd pixel last, then a center crop to 224 (GLoRIA's _resize_img)."""
    image = np.random.default_rng(2).integers(1, 256, (256, narrow), dtype=np.uint8)
    left = (256 - narrow) // 2
    square = np.pad(image, ((0, 0), (left, 256 - narrow - left)))
    preprocess = Preprocess(size=224, resize=256, fit="pad", resampling="area")
    assert np.array_equal(preprocess.resized(image), square[16:240, 16:240])
    geometry = preprocess.geometry(*image.shape)
    assert (geometry.offset_x, geometry.offset_y) == (left - 16, -16)


def test_resizing_by_area_averages_the_covered_pixels() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4) * 8
    halved = Preprocess(size=2, resampling="area").resized(image)
    assert halved.tolist() == [[20, 36], [84, 100]]
