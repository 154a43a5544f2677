"""Shared patients and images are found, copies too, and different radiographs are not."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from g2dbench.data.overlap import Overlap, look, overlap
from g2dbench.data.prepare import prepare
from g2dbench.data.store.request import GenerationSettings
from g2dbench.data.store.store import Store
from g2dbench.data.synthetic.synthetic import generate
from g2dbench.progress import quiet
from g2dbench.registry import Registry

REGISTRY = Registry()


def copies(image: Image.Image) -> dict[str, Image.Image]:
    """What people do to a radiograph before they publish it again."""
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
    """24 drawn radiographs against four other ones and the copies of one of them, `i05`."""
    folder = tmp_path_factory.mktemp("overlap")
    films = [Image.fromarray(generate(index, 128).image) for index in range(28)]
    one = make_root(folder / "one", {f"i{k:02d}": film for k, film in enumerate(films[:24])})
    others = {f"i{k:02d}": film for k, film in enumerate(films[24:], 20)}
    other = make_root(folder / "other", {**others, **copies(films[5])})
    return overlap(make(one, folder / "s"), make(other, folder / "s"), quiet)


def test_copies_are_found_and_nothing_else(found: Overlap) -> None:
    assert [(pair.one, pair.other, pair.alike) for pair in found.identical] == [("i05", "same", 1)]
    near = {(pair.one, pair.other) for pair in found.near}
    assert near == {("i05", name) for name in ("jpeg", "half", "bright", "contrast")}
    assert all(0.98 <= pair.alike <= 1 for pair in found.near)


def test_names_that_both_use_are_counted_for_themselves(found: Overlap) -> None:
    assert found.patients == ("i20", "i21", "i22", "i23")
    assert found.studies == ()
    told = str(found)
    assert "rsna and rsna share 1 images pixel for pixel and 4 nearly; 4 patients" in told
    pairs = found.identical + found.near
    counted = sum(int(line.rsplit(": ", 1)[1]) for line in told.splitlines()[1:])
    assert counted == len(pairs) == 5


def test_a_store_shares_only_real_repetitions_with_itself(tmp_path: Path) -> None:
    store = prepare(
        "synthetic", None, tmp_path, progress=quiet, registry=REGISTRY, size=64,
        generation=GenerationSettings(count=12),
    )  # fmt: skip
    found = overlap(store.take([1, 2, 3]), store, quiet)
    assert (found.identical, found.near) == ((), ())
    assert len(found.patients) == store.take([1, 2, 3]).table["patient"].nunique()


def test_hashes_by_hand() -> None:
    ramp = np.tile(np.arange(0, 180, 20, dtype=np.uint8), (8, 1))
    assert look(ramp)[0] == np.uint64(2**64 - 1)
    assert look(ramp[:, ::-1])[0] == 0
    assert look(np.full((40, 40), 9, np.uint8)) == (0, 0)
    image = generate(3, 128).image
    assert look(image) == look(np.kron(image, np.ones((2, 2), np.uint8)))


def test_blank_images_do_not_resemble_anything_but_themselves(tmp_path: Path) -> None:
    blank = {name: Image.new("L", (128, 128), value) for name, value in (("a", 9), ("b", 200))}
    one = make(make_root(tmp_path / "one", blank), tmp_path / "s")
    other = make(make_root(tmp_path / "other", {"c": blank["a"]}), tmp_path / "s")
    found = overlap(one, other, quiet)
    assert [(pair.one, pair.other) for pair in found.identical] == [("a", "c")]
    assert found.near == ()
