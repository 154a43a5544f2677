"""A store read at smaller sizes: pixels, boxes, masks and fingerprint."""

import pickle

import numpy as np
import pytest
from PIL import Image

from g2dbench.data.prepare import prepare
from g2dbench.data.store.row import pack
from g2dbench.data.store.shrink import shrunk
from g2dbench.data.store.store import Store
from g2dbench.data.store.verify import describe, verify
from g2dbench.errors import Misuse
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.sample import Box, Sample


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """RSNA's layout, 20 noisy images of 64 x 64, stored as they are; every second has a box."""
    root = tmp_path_factory.mktemp("rsna")
    images = root / "stage_2_train_images"
    images.mkdir()
    lines = ["patientId,x,y,width,height,Target\n"]
    for index in range(20):
        noise = np.random.default_rng(index).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(images / f"p{index:02d}.png")
        lines.append(f"p{index:02d},{'512,256,256,128,1' if index % 2 else ',,,,0'}\n")
    (root / "stage_2_train_labels.csv").write_text("".join(lines))
    folder = tmp_path_factory.mktemp("store")
    return prepare("rsna", root, folder, progress=quiet, registry=Registry(), size=64)


def test_pixels_are_pillows_and_boxes_and_masks_follow(store: Store) -> None:
    full, half = store[1], store.at(32)[1]
    expected = Image.fromarray(full.image).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(half.image, np.asarray(expected))
    # 512 of 1024 is half of 64, 256 of 1024 a quarter.
    assert full.boxes == (Box("Pneumonia", 32, 16, 48, 24),)
    assert half.boxes == (Box("Pneumonia", 16, 8, 24, 12),)
    right = np.zeros((32, 32), bool)
    right[8:12, 16:24] = True
    np.testing.assert_array_equal(half.masks["Pneumonia"], right)
    assert (half.id, half.split, half.labels) == (full.id, full.split, full.labels)
    half.image[:] = 0  # a copy that may be written to


def test_every_size_has_a_fingerprint_of_its_own(store: Store) -> None:
    prints = {store.at(size).fingerprint for size in (16, 31, 32, 63)} | {store.fingerprint}
    assert len(prints) == 5
    assert store.at(32).fingerprint == store.at(48).at(32).fingerprint == Store(
        store.folder
    ).at(32).fingerprint  # fmt: skip
    assert store.at(64).fingerprint == store.fingerprint
    assert not store.at(64).is_shrunk
    with pytest.raises(Misuse, match="64 px, none of 65"):
        store.at(65)


def test_every_part_keeps_the_size(store: Store) -> None:
    small = store.at(32)
    parts = [
        small.take([3, 1]), small.split("train"), small.named("other"),
        pickle.loads(pickle.dumps(small.split("train"))),  # noqa: S301
    ]  # fmt: skip
    for part in parts:
        assert (part.size, part.fingerprint) == (32, small.fingerprint)
        assert part[0].image.shape == (32, 32)


def test_a_row_is_that_of_the_sample(store: Store) -> None:
    small = store.at(32)
    row, whole = small.raw(1), store.raw(1)
    assert (row["height"], row["width"]) == (32, 32)
    assert row == pack(small[1], whole["source"], whole["source_sha256"])


def test_what_is_shown_is_what_is_read_and_what_is_verified_is_the_store(store: Store) -> None:
    text = describe(store.at(32))
    assert "32 px, shrunk on read from 64 px" in text
    assert "height x width: 32x32 20" in text
    assert verify(store.at(32), quiet).images == 20


@pytest.mark.parametrize("seed", range(60))
def test_a_finding_stays_where_it_was(seed: int) -> None:
    draw = np.random.default_rng(seed).integers
    height, width, size = int(draw(2, 41)), int(draw(2, 41)), int(draw(1, 41))
    top, left = int(draw(0, height)), int(draw(0, width))
    bottom, right = int(draw(top + 1, height + 1)), int(draw(left + 1, width + 1))
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    image = np.full((height, width), 7, np.uint8)
    box = Box("x", left, top, right, bottom)
    before = Sample(id="a", image=image, patient="p", boxes=(box,), masks={"x": mask})
    after = shrunk(before, size)
    tall, wide = after.image.shape
    assert min(tall, wide) == min(size, height, width)
    assert (after.image == 7).all()
    scaled = np.array(after.boxes[0][1:]) * ([width / wide, height / tall] * 2)
    np.testing.assert_allclose(scaled, box[1:], rtol=1e-9)
    rows, columns = np.nonzero(after.masks["x"])
    assert rows.size
    # Every pixel of the small mask lies, at least in part, on the large one.
    assert ((rows + 1) * height / tall > top).all()
    assert (rows * height / tall < bottom).all()
    assert ((columns + 1) * width / wide > left).all()
    assert (columns * width / wide < right).all()
