"""Images, boxes and masks are mapped alike: none is shifted by half a pixel, cropped or not."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.annotations.geometry import Geometry
from g2dbench.data.annotations.masks import BoxMasks, resize
from g2dbench.data.images.border import CROP, KEEP, TOLERANCE, content_window
from g2dbench.data.prepare import find_store, prepare
from g2dbench.data.store.decode import load
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import verify
from g2dbench.errors import BadData, Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Record

REGISTRY = Registry()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def bounds(mask: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of the foreground of an (H, W) mask."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


DARK, LIGHT = 60, 180


def measure_rectangle(image: np.ndarray) -> np.ndarray:
    """Center x, y, width and height of a bright rectangle, measured from gray levels."""
    light = (image.astype(float) - DARK) / (LIGHT - DARK)
    across, down = light.sum(0), light.sum(1)
    x = (across * (np.arange(across.size) + 0.5)).sum() / across.sum()
    y = (down * (np.arange(down.size) + 0.5)).sum() / down.sum()
    return np.array([x, y, light[int(y)].sum(), light[:, int(x)].sum()])


@pytest.mark.parametrize("seed", range(40))
def test_image_box_and_mask_agree_to_half_a_pixel(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(60, 400, 2)
    size = int(generator.integers(24, 120))
    edges = generator.integers(0, 30, 4) if seed % 2 else np.zeros(4, int)  # of black border
    top, left, bottom, right = (int(edge) for edge in edges)
    pixels = np.zeros((height + top + bottom, width + left + right), np.uint8)
    body = pixels[top : top + height, left : left + width]
    body[:] = DARK
    x0, y0 = (int(generator.integers(side // 6, side // 3)) for side in (width, height))
    x1, y1 = (int(generator.integers(2 * side // 3, 5 * side // 6)) for side in (width, height))
    body[y0:y1, x0:x1] = LIGHT
    box = Box("x", x0 + left, y0 + top, x1 + left, y1 + top)
    record = Record(
        id="a", path=Path("a"), patient="p", boxes=(box,), masks=BoxMasks((box,), pixels.shape)
    )
    sample = load(record, png(pixels), size, CROP if seed % 2 else KEEP)

    assert min(sample.image.shape) == min(size, height, width)
    down, across = np.array(sample.image.shape) / (height, width)
    expected = np.array([x0 * across, y0 * down, x1 * across, y1 * down])
    assert sample.boxes is not None
    assert sample.masks is not None
    found = np.array(sample.boxes[0][1:])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(bounds(sample.masks["x"]) - found).max() <= 0.5 + 1e-9
    center = np.array([(found[0] + found[2]) / 2, (found[1] + found[3]) / 2])
    extent = np.array([found[2] - found[0], found[3] - found[1]])
    measured = measure_rectangle(sample.image)
    np.testing.assert_allclose(measured[:2], center, atol=0.1)
    np.testing.assert_allclose(measured[2:], extent, atol=0.5)
    # Mapped back to the file: within half a pixel of the file, or half a stored pixel if larger.
    back = bounds(sample.masks["x"]) / [across, down, across, down] + [left, top, left, top]
    allowed = np.maximum(0.5, 0.5 / np.array([across, down, across, down])) + 1e-9
    assert (np.abs(back - np.array(box[1:])) <= allowed).all()


@pytest.mark.parametrize("seed", range(40))
def test_annotation_in_another_frame_agrees(seed: int) -> None:
    generator = np.random.default_rng(seed)
    file, frame = (tuple(int(side) for side in generator.integers(40, 900, 2)) for _ in range(2))
    top, left = (int(generator.integers(0, side // 8)) for side in file)
    bottom, right = (int(side - generator.integers(0, side // 8)) for side in file)
    short = min(bottom - top, right - left)
    scale = float(generator.uniform(0.1, 1))
    stored = tuple(max(8, round(side * scale)) for side in (bottom - top, right - left))
    x0, y0 = (int(generator.integers(side // 4, side // 3)) for side in frame[::-1])
    x1, y1 = (int(generator.integers(2 * side // 3, 3 * side // 4)) for side in frame[::-1])
    box = Box("x", x0, y0, x1, y1)
    geometry = Geometry(file, (top, left, bottom, right), stored)
    found = np.array(geometry.box(box, frame)[1:])
    mask = geometry.mask(BoxMasks((box,), frame)["x"], frame)
    assert short > 0
    assert mask.shape == stored
    assert np.abs(bounds(mask) - found).max() <= 0.5 + 1e-6
    across, down = stored[1] / (right - left), stored[0] / (bottom - top)
    sides = np.array([file[1] / frame[1], file[0] / frame[0]] * 2)
    back = (found / [across, down, across, down] + [left, top, left, top]) / sides
    np.testing.assert_allclose(back, box[1:], atol=1e-6)


def window_by_peeling(gray: np.ndarray) -> tuple[int, int, int, int]:
    """`content_window`, computed by removing one row or column after the other."""
    top, left, (bottom, right) = 0, 0, gray.shape

    def is_uniform(line: np.ndarray) -> bool:
        return bool((line <= TOLERANCE).all() or (line >= 255 - TOLERANCE).all())

    while top < bottom and left < right:
        if is_uniform(gray[top, left:right]):
            top += 1
        elif is_uniform(gray[bottom - 1, left:right]):
            bottom -= 1
        elif is_uniform(gray[top:bottom, left]):
            left += 1
        elif is_uniform(gray[top:bottom, right - 1]):
            right -= 1
        else:
            return top, left, bottom, right
    return 0, 0, *gray.shape


def test_borders_equal_those_removed_line_by_line() -> None:
    generator = np.random.default_rng(0)
    for _ in range(400):
        shape = generator.integers(1, 9, 2)
        dark, light = TOLERANCE, 255 - TOLERANCE
        levels = np.array([0, dark, dark + 1, 128, light - 1, light, 255], np.uint8)
        weights = generator.dirichlet(np.full(7, 0.4))
        gray = generator.choice(levels, shape, p=weights)
        assert content_window(gray) == window_by_peeling(gray)


def test_nested_borders_are_removed() -> None:
    gray = np.full((40, 50), 255, np.uint8)
    gray[3:, 5:] = 0
    gray[10:30, 12:44] = 100
    assert content_window(gray) == (10, 12, 30, 44)
    gray[20, 12:44] = 0  # a black row inside is not part of the border
    assert content_window(gray) == (10, 12, 30, 44)


def test_annotation_that_is_cropped_away_is_an_error() -> None:
    geometry = Geometry((100, 100), (20, 20, 80, 80), (30, 30))
    with pytest.raises(BadData, match="border that is cut off"):
        geometry.box(Box("x", 0, 0, 10, 10), (100, 100))
    assert geometry.box(Box("x", 10, 30, 50, 100), (100, 100)) == Box("x", 0, 5, 15, 30)
    mask = np.zeros((100, 100), bool)
    mask[:5, :5] = True
    with pytest.raises(BadData, match="border that is cut off"):
        geometry.mask(mask, (100, 100))
    mask[50, 50] = True
    assert geometry.mask(mask, (100, 100)).sum() == 1
    assert not geometry.mask(np.zeros((100, 100), bool), (100, 100)).any()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one film that has a white margin on the left, and one box."""
    root = tmp_path_factory.mktemp("film")
    pixels = np.full((64, 84), 255, np.uint8)
    pixels[:, 20:] = np.random.default_rng(0).integers(20, 200, (64, 64))
    (root / "a.png").write_bytes(png(pixels))
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 84}],
        "categories": [{"id": 1, "name": "Nodule"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [30, 10, 20, 12],
             "segmentation": [[30, 10, 50, 10, 50, 22, 30, 22]]},
        ],
    }  # fmt: skip
    (root / "boxes.json").write_text(json.dumps(content))
    return root


def prepare_film(root: Path, store: Path, **options: str) -> Store:
    return prepare(
        "images",
        root,
        store,
        progress=quiet,
        registry=REGISTRY,
        size=64,
        own_name="film",
        **options,
    )


def test_a_store_with_cropped_borders_is_a_different_store(film: Path, tmp_path: Path) -> None:
    cropped = prepare_film(film, tmp_path, border=CROP)
    whole = prepare_film(film, tmp_path)
    assert cropped.folder != whole.folder
    assert cropped.fingerprint != whole.fingerprint
    assert "borders cut off" in cropped.summary
    assert "borders cut off" not in whole.summary
    np.testing.assert_array_equal(cropped[0].image, whole[0].image[:, 20:])
    assert cropped[0].boxes == (Box("Nodule", 10, 10, 30, 22),)
    assert whole[0].boxes == (Box("Nodule", 30, 10, 50, 22),)
    assert bounds(cropped[0].masks["Nodule"]).tolist() == [10, 10, 30, 22]
    verify(cropped, progress=quiet)
    assert find_store("film", None, tmp_path).folder == whole.folder


def test_the_border_option_is_part_of_the_identity_of_every_store(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").write_bytes(png(np.arange(20, 20 + 64, dtype=np.uint8).reshape(8, 8)))
    (root / "labels.csv").write_text("image,Nodule\na.png,1\n")
    both = [prepare_film(root, tmp_path / "s", border=border) for border in (KEEP, CROP)]
    np.testing.assert_array_equal(both[0][0].image, both[1][0].image)
    assert both[0].fingerprint != both[1].fingerprint


def test_border_is_refused_for_synthetic_images_and_unknown_values(
    film: Path, tmp_path: Path
) -> None:
    with pytest.raises(Misuse, match="omit --border"):
        prepare("synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, border=CROP)
    with pytest.raises(Misuse, match="keep, crop"):
        prepare_film(film, tmp_path, border="trim")


@pytest.mark.parametrize("seed", range(20))
def test_covered_areas_are_exact(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random(tuple(generator.integers(1, 12, 2))) > 0.5
    height, width = (int(side) for side in generator.integers(1, 12, 2))
    # Pixels are split so finely that old and new edges lie between the fine pixels.
    fine = np.kron(mask, np.ones((height, width)))
    parts = fine.reshape(height, mask.shape[0], width, mask.shape[1]).mean((1, 3))
    expected = parts >= 0.5
    if mask.any() and not expected.any():
        expected = parts == parts.max()
    np.testing.assert_array_equal(resize(mask, height, width), expected)
