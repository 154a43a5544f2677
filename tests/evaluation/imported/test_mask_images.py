"""Masks as PNG files: the same result as run lengths, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from g2dbench.errors import BadData
from g2dbench.evaluation.imported.mask_images import find_mask_files, pictures_of, read_mask_image

MASK = np.array([[0, 1, 1], [0, 0, 1]], bool)


def write(path: Path, values: Any, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    (image.convert(mode) if mode else image).save(path, format="PNG")
    return path


@pytest.mark.parametrize("foreground", [1, 128, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_foreground_value_is_the_mask(tmp_path: Path, foreground: int, dtype: Any) -> None:
    path = write(tmp_path / "a.png", MASK.astype(dtype) * dtype(foreground))
    assert (read_mask_image(path, (2, 3)) == MASK).all()


def test_bilevel_empty_and_full_masks(tmp_path: Path) -> None:
    bilevel = write(tmp_path / "b.png", MASK.astype(np.uint8) * 255, "1")
    assert (read_mask_image(bilevel, (2, 3)) == MASK).all()
    assert not read_mask_image(write(tmp_path / "e.png", np.zeros((2, 3), np.uint8)), (2, 3)).any()
    full = write(tmp_path / "f.png", np.full((2, 3), 255, np.uint8))
    assert read_mask_image(full, (2, 3)).all()


@pytest.mark.parametrize(
    ("values", "mode", "reason"),
    [
        (MASK.astype(np.uint8), "RGB", "colors"),
        (MASK.astype(np.uint8), "RGBA", "colors"),
        (MASK.astype(np.uint8).T, None, "3 x 2 pixels, the prepared image 2 x 3: resize"),
        (np.array([[0, 1, 2], [3, 4, 5]], np.uint8), None, "6 gray levels, from 0 to 5"),
        (np.array([[7, 7, 9], [7, 7, 9]], np.uint8), None, "2 gray levels, from 7 to 9"),
    ],
)
def test_what_is_no_mask_is_refused(
    tmp_path: Path, values: Any, mode: str | None, reason: str
) -> None:
    with pytest.raises(BadData, match=reason):
        read_mask_image(write(tmp_path / "a.png", values, mode), (2, 3))


def test_missing_truncated_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no mask file"):
        read_mask_image(tmp_path / "absent.png", (2, 3))
    good = write(tmp_path / "good.png", MASK.astype(np.uint8)).read_bytes()
    for content in (b"", b"hello", good[: len(good) // 2], good[:40]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(BadData, match="cannot be read as a PNG"):
            read_mask_image(tmp_path / "bad.png", (2, 3))
    Image.fromarray(MASK.astype(np.uint8)).save(tmp_path / "jpeg.png", format="JPEG")
    with pytest.raises(BadData, match="cannot be read as a PNG"):
        read_mask_image(tmp_path / "jpeg.png", (2, 3))


def split(*ids: str) -> Any:
    class Split:
        table = pd.DataFrame({"id": ids})
        card = SimpleNamespace(name="toy")

        def __len__(self) -> int:
            return len(ids)

    return Split()


def test_files_are_found_by_finding_and_id(tmp_path: Path) -> None:
    for name in ("Pleural-Effusion/a", "Pleural-Effusion/p/b", "nodule/a", "nodule/p/b"):
        write(tmp_path / f"{name}.png", MASK.astype(np.uint8))
    found = find_mask_files(tmp_path, split("a", "p/b.png"), ["nodule", "pleural effusion"])
    assert {key: str(each.relative_to(tmp_path)) for key, each in found.items()} == {
        (0, 0): "nodule/a.png", (1, 0): "nodule/p/b.png",
        (0, 1): "Pleural-Effusion/a.png", (1, 1): "Pleural-Effusion/p/b.png",
    }  # fmt: skip
    assert len(pictures_of(tmp_path)) == 4
    write(tmp_path / "nodule" / "stranger.png", MASK.astype(np.uint8))
    with pytest.raises(BadData, match=r"stranger\.png is of no test image of toy"):
        find_mask_files(tmp_path, split("a", "p/b.png"), ["nodule", "pleural effusion"])


def test_a_missing_mask_is_no_empty_one(tmp_path: Path) -> None:
    write(tmp_path / "a.png", MASK.astype(np.uint8))
    assert find_mask_files(tmp_path, split("a"), ["nodule"]) == {(0, 0): tmp_path / "a.png"}
    with pytest.raises(BadData, match=r"for image 'b', as nodule/b.png; 1 of 2 masks are missing"):
        find_mask_files(tmp_path, split("a", "b"), ["nodule"])


def test_the_pictures_of_a_table_are_those_it_names(tmp_path: Path) -> None:
    used = write(tmp_path / "m" / "a.png", MASK.astype(np.uint8))
    write(tmp_path / "m" / "unused.png", MASK.astype(np.uint8))
    table = tmp_path / "t.csv"
    table.write_text("id,finding,mask\na,nodule,m/a.png\nb,nodule,\nc,nodule,m/absent.png\n")
    assert pictures_of(table) == [used]
    (tmp_path / "plain.csv").write_text("id,finding,counts\na,nodule,6\n")
    assert pictures_of(tmp_path / "plain.csv") == []
