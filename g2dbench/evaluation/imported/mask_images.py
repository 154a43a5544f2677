"""Masks from PNG files: a folder with one file per image, or paths in a CSV.

A folder contains FINDING/ID.png, or ID.png if one finding only is scored. A mask is a gray or
black-and-white PNG in the size of the prepared image: 0 is background, one other value foreground.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from g2dbench.data.tables.columns import canonical, find_column
from g2dbench.data.tables.csv import header, read_table
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.system.counts import counted

_GRAY_MODES = ("1", "L", "P", "I", "I;16")


def read_mask_image(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of a PNG file, (H, W). size: of the prepared image, height first.

    BadData if the file is missing or no PNG, or has another size, colors, or gray levels.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != size[::-1]:  # before any pixel is decoded
                raise BadData(
                    f"{path} has {image.height} x {image.width} pixels, the prepared image "
                    f"{size[0]} x {size[1]}: resize it (`g2dbench data list` names the size)"
                )
            if image.mode not in _GRAY_MODES:
                raise BadData(f"{path} has colors (mode {image.mode}): save masks as gray images")
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise BadData(f"there is no mask file {path}") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise BadData(f"{path} cannot be read as a PNG: {error}") from error
    levels = np.unique(values)
    if len(levels) > 2 or (len(levels) == 2 and levels[0] != 0):
        raise BadData(
            f"{path} has {counted(len(levels), 'gray level')}, from {levels[0]} to {levels[-1]}: a "
            "mask has 0 and one other value; apply your threshold first"
        )
    return np.asarray(values != 0)


def find_mask_files(
    folder: Path, test: Dataset, findings: Sequence[str]
) -> dict[tuple[int, int], Path]:
    """The file of each test image and finding, as positions.

    Subfolders are compared with findings without case and punctuation. BadData if a file is missing
    or belongs to no test image and finding.
    """
    inside = {canonical(each.name): each for each in sorted(folder.iterdir()) if each.is_dir()}
    found: dict[tuple[int, int], Path] = {}
    missing = []
    for place, finding in enumerate(findings):
        base = inside.get(canonical(finding))
        if base is None and len(findings) == 1:
            base = folder
        for row, name in enumerate(map(str, test.table["id"])):
            file = None if base is None else base / f"{name.removesuffix('.png')}.png"
            if file is not None and file.is_file():
                found[row, place] = file
            else:
                missing.append((name, finding))
    _check_unused(folder, set(found.values()), test, findings)
    if missing:
        name, finding = missing[0]
        raise BadData(
            f"{folder} has no mask of {finding!r} for image {name!r}, as {finding}/{name}.png; "
            f"{len(missing)} of {len(test) * len(findings)} masks are missing. An image without "
            "the finding has an empty mask; scores of a part of the images are not comparable"
        )
    return found


def _check_unused(folder: Path, used: set[Path], test: Dataset, findings: Sequence[str]) -> None:
    unused = sorted(each for each in folder.rglob("*.png") if each not in used)
    if unused:
        raise BadData(
            f"{unused[0]} is of no test image of {test.card.name} and finding that is scored "
            f"({counted(len(unused), 'such file')}); the findings are {', '.join(findings)}, and "
            f"ids are like {str(test.table['id'].iloc[0])!r}"
        )


def pictures_of(path: Path) -> list[Path]:
    """The PNG files that predictions consist of beside the file itself, sorted.

    All of a folder; those in the column `mask` of a CSV.
    """
    if path.is_dir():
        return sorted(path.rglob("*.png"))
    if path.suffix.lower() != ".csv" or find_column(header(path), "mask") is None:
        return []
    named = {path.parent / text for text in read_table(path, ("mask",))["mask"] if text}
    return sorted(file for file in named if file.is_file())
