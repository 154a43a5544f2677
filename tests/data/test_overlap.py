"""Shared patients, images and copies are found; different radiographs are not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from g2dbench.data.overlap import Overlap, overlap, perceptual_hashes
from g2dbench.data.prepare import prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.data.synthetic.synthetic import generate
from g2dbench.progress import quiet
from g2dbench.registry import Registry

REGISTRY = Registry()


def copies(image: Image.Image) -> dict[str, Image.Image]:
    """Typical changes of a radiograph before it is published again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return {
        "same": image,
        "jpeg": Image.open(buffer),
        "half": image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
        "bright": ImageEnhance.Brightness(image).enhance(0.8),
        "contrast": ImageEnhance.Contrast(image).enhance(0.8),
    }


def make_root(root: Path, images: dict[str, Image.Image]) -> Path:
    folder = root / "stage_2_train_images"
    folder.mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    rows = "".join(f"{name},,,,,0\n" for name in images)
    (root / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\n" + rows)
    return root


def make(root: Path, store: Path) -> Store:
    return prepare("rsna", root, store, progress=quiet, registry=REGISTRY, size=96)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Overlap:
    """The overlap of 24 synthetic radiographs with four others and copies of one, `i05`."""
    folder = tmp_path_factory.mktemp("overlap")
    films = [Image.fromarray(generate(index, 128).image) for index in range(28)]
    one = make_root(folder / "one", {f"i{k:02d}": film for k, film in enumerate(films[:24])})
    others = {f"i{k:02d}": film for k, film in enumerate(films[24:], 20)}
    other = make_root(folder / "other", {**others, **copies(films[5])})
    return overlap(make(one, folder / "s"), make(other, folder / "s"), quiet)


def test_only_copies_are_found(found: Overlap) -> None:
    assert [(pair.one, pair.other, pair.similarity) for pair in found.identical] == [
        ("i05", "same", 1)
    ]
    near = {(pair.one, pair.other) for pair in found.near}
    assert near == {("i05", name) for name in ("jpeg", "half", "bright", "contrast")}
    assert all(0.98 <= pair.similarity <= 1 for pair in found.near)


def test_shared_names_are_counted_separately(found: Overlap) -> None:
    assert found.patients == ("i20", "i21", "i22", "i23")
    assert found.studies == ()
    summary = str(found)
    assert "rsna and rsna share 1 images pixel for pixel and 4 nearly; 4 patients" in summary
    pairs = found.identical + found.near
    counted = sum(int(line.rsplit(": ", 1)[1]) for line in summary.splitlines()[1:])
    assert counted == len(pairs) == 5


def test_a_store_overlaps_with_itself_only_in_repeated_images(tmp_path: Path) -> None:
    store = prepare(
        "synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, size=64,
        generation=GenerationSettings(count=12),
    )  # fmt: skip
    found = overlap(store.take([1, 2, 3]), store, quiet)
    assert (found.identical, found.near) == ((), ())
    assert len(found.patients) == store.take([1, 2, 3]).table["patient"].nunique()


def test_hashes_of_simple_images() -> None:
    ramp = np.tile(np.arange(0, 180, 20, dtype=np.uint8), (8, 1))
    assert perceptual_hashes(ramp)[0] == np.uint64(2**64 - 1)
    assert perceptual_hashes(ramp[:, ::-1])[0] == 0
    assert perceptual_hashes(np.full((40, 40), 9, np.uint8)) == (0, 0)
    image = generate(3, 128).image
    assert perceptual_hashes(image) == perceptual_hashes(np.kron(image, np.ones((2, 2), np.uint8)))


def test_blank_images_are_similar_only_to_themselves(tmp_path: Path) -> None:
    blank = {name: Image.new("L", (128, 128), value) for name, value in (("a", 9), ("b", 200))}
    one = make(make_root(tmp_path / "one", blank), tmp_path / "s")
    other = make(make_root(tmp_path / "other", {"c": blank["a"]}), tmp_path / "s")
    found = overlap(one, other, quiet)
    assert [(pair.one, pair.other) for pair in found.identical] == [("a", "c")]
    assert found.near == ()
