"""Images, boxes and masks go the same way: nothing is off by half a pixel, whole or cropped."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.annotations.geometry import Geometry
from g2dbench.data.annotations.masks import BoxMasks, resize
from g2dbench.data.images.border import CROP, KEEP, SLACK, inside
from g2dbench.data.prepare import find, prepare
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


def tight(mask: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of an (H, W) mask."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


GROUND, LIGHT = 60, 180


def seen(image: np.ndarray) -> np.ndarray:
    """x, y of the centre, and width and height, of a bright rectangle, from its grey levels."""
    light = (image.astype(float) - GROUND) / (LIGHT - GROUND)
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
    body[:] = GROUND
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
    assert np.abs(tight(sample.masks["x"]) - found).max() <= 0.5 + 1e-9
    centre = np.array([(found[0] + found[2]) / 2, (found[1] + found[3]) / 2])
    extent = np.array([found[2] - found[0], found[3] - found[1]])
    measured = seen(sample.image)
    np.testing.assert_allclose(measured[:2], centre, atol=0.1)
    np.testing.assert_allclose(measured[2:], extent, atol=0.5)
    # And back into the file: within half a pixel of it, or half a stored one if that is larger.
    back = tight(sample.masks["x"]) / [across, down, across, down] + [left, top, left, top]
    allowed = np.maximum(0.5, 0.5 / np.array([across, down, across, down])) + 1e-9
    assert (np.abs(back - np.array(box[1:])) <= allowed).all()


@pytest.mark.parametrize("seed", range(40))
def test_annotation_in_a_frame_of_its_own_agrees_too(seed: int) -> None:
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
    way = Geometry(file, (top, left, bottom, right), stored)
    found = np.array(way.box(box, frame)[1:])
    mask = way.mask(BoxMasks((box,), frame)["x"], frame)
    assert short > 0
    assert mask.shape == stored
    assert np.abs(tight(mask) - found).max() <= 0.5 + 1e-6
    across, down = stored[1] / (right - left), stored[0] / (bottom - top)
    sides = np.array([file[1] / frame[1], file[0] / frame[0]] * 2)
    back = (found / [across, down, across, down] + [left, top, left, top]) / sides
    np.testing.assert_allclose(back, box[1:], atol=1e-6)


def peeled(grey: np.ndarray) -> tuple[int, int, int, int]:
    """`inside` by taking off one row or column after the other."""
    top, left, (bottom, right) = 0, 0, grey.shape

    def plain(line: np.ndarray) -> bool:
        return bool((line <= SLACK).all() or (line >= 255 - SLACK).all())

    while top < bottom and left < right:
        if plain(grey[top, left:right]):
            top += 1
        elif plain(grey[bottom - 1, left:right]):
            bottom -= 1
        elif plain(grey[top:bottom, left]):
            left += 1
        elif plain(grey[top:bottom, right - 1]):
            right -= 1
        else:
            return top, left, bottom, right
    return 0, 0, *grey.shape


def test_borders_are_what_peeling_takes_off() -> None:
    generator = np.random.default_rng(0)
    for _ in range(400):
        shape = generator.integers(1, 9, 2)
        levels = np.array([0, SLACK, SLACK + 1, 128, 255 - SLACK - 1, 255 - SLACK, 255], np.uint8)
        weights = generator.dirichlet(np.full(7, 0.4))
        grey = generator.choice(levels, shape, p=weights)
        assert inside(grey) == peeled(grey)


def test_frames_within_frames_are_cut_off() -> None:
    grey = np.full((40, 50), 255, np.uint8)
    grey[3:, 5:] = 0
    grey[10:30, 12:44] = 100
    assert inside(grey) == (10, 12, 30, 44)
    grey[20, 12:44] = 0  # a black row inside is none of the border
    assert inside(grey) == (10, 12, 30, 44)


def test_what_is_cut_off_takes_no_annotation_along_in_silence() -> None:
    way = Geometry((100, 100), (20, 20, 80, 80), (30, 30))
    with pytest.raises(BadData, match="border that is cut off"):
        way.box(Box("x", 0, 0, 10, 10), (100, 100))
    assert way.box(Box("x", 10, 30, 50, 100), (100, 100)) == Box("x", 0, 5, 15, 30)
    mask = np.zeros((100, 100), bool)
    mask[:5, :5] = True
    with pytest.raises(BadData, match="border that is cut off"):
        way.mask(mask, (100, 100))
    mask[50, 50] = True
    assert way.mask(mask, (100, 100)).sum() == 1
    assert not way.mask(np.zeros((100, 100), bool), (100, 100)).any()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one film with a white margin on the left, and a box on it."""
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


def made(root: Path, store: Path, **words: str) -> Store:
    return prepare(
        "images", root, store, progress=quiet, registry=REGISTRY, size=64, own_name="film", **words
    )


def test_a_store_without_borders_is_another_store(film: Path, tmp_path: Path) -> None:
    cropped = made(film, tmp_path, border=CROP)
    kept = made(film, tmp_path)
    assert cropped.folder != kept.folder
    assert cropped.fingerprint != kept.fingerprint
    assert "borders cut off" in cropped.summary
    assert "borders cut off" not in kept.summary
    np.testing.assert_array_equal(cropped[0].image, kept[0].image[:, 20:])
    assert cropped[0].boxes == (Box("Nodule", 10, 10, 30, 22),)
    assert kept[0].boxes == (Box("Nodule", 30, 10, 50, 22),)
    assert tight(cropped[0].masks["Nodule"]).tolist() == [10, 10, 30, 22]
    verify(cropped, progress=quiet)
    assert find("film", None, tmp_path).folder == kept.folder


def test_border_belongs_to_the_identity_even_where_there_is_none(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").write_bytes(png(np.arange(20, 20 + 64, dtype=np.uint8).reshape(8, 8)))
    (root / "labels.csv").write_text("image,Nodule\na.png,1\n")
    both = [made(root, tmp_path / "s", border=border) for border in (KEEP, CROP)]
    np.testing.assert_array_equal(both[0][0].image, both[1][0].image)
    assert both[0].fingerprint != both[1].fingerprint


def test_synthetic_images_have_no_border_and_unknown_choices_are_refused(
    film: Path, tmp_path: Path
) -> None:
    with pytest.raises(Misuse, match="omit --border"):
        prepare("synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, border=CROP)
    with pytest.raises(Misuse, match="keep, crop"):
        made(film, tmp_path, border="trim")


@pytest.mark.parametrize("seed", range(20))
def test_covered_areas_are_exact(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random(tuple(generator.integers(1, 12, 2))) > 0.5
    height, width = (int(side) for side in generator.integers(1, 12, 2))
    # Every pixel split into so many that old and new edges fall between them.
    fine = np.kron(mask, np.ones((height, width)))
    parts = fine.reshape(height, mask.shape[0], width, mask.shape[1]).mean((1, 3))
    expected = parts >= 0.5
    if mask.any() and not expected.any():
        expected = parts == parts.max()
    np.testing.assert_array_equal(resize(mask, height, width), expected)
