"""CheXlocalize's segmentations of CheXpert: `{image: {finding: {size, counts}}}`, COCO run lengths.

    gt_segmentations_val.json, gt_segmentations_test.json

An image is named `patient64622_study1_view1_frontal`; size is [height, width] of the full image.
Where one of an image's masks cannot be read, none of them is used, and its note tells.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from g2dbench.data.annotations import rle
from g2dbench.data.annotations.masks import RunMasks
from g2dbench.data.tables.files import read_bytes
from g2dbench.errors import BadData, BadResult

Frame = tuple[int, int]


class Drawn(NamedTuple):
    """What is known of one image: its masks in their frame (H, W), and what is not known."""

    masks: RunMasks | None = None
    frame: Frame | None = None
    notes: tuple[str, ...] = ()


class Segmentations:
    """The masks of images, by the image's name."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        """spellings: findings that are called otherwise in the labels."""
        self._spellings = spellings
        self._images: dict[str, tuple[Path, Any]] = {}

    def add(self, path: Path) -> None:
        """Take in one file; BadData if it is not such a file."""
        try:
            found = json.loads(read_bytes(path))
        except (OSError, ValueError, RecursionError) as error:
            raise BadData(f"the segmentations {path} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise BadData(f"the segmentations {path} are no mapping from image to findings")
        self._images |= {name: (path, masks) for name, masks in found.items()}

    def of(self, image: str) -> Drawn:
        """Masks of an image and their frame (H, W), without findings that were looked for in vain.

        Nothing where nobody segmented it; a note where its entry is broken.
        """
        if image not in self._images:
            return Drawn()
        path, masks = self._images[image]
        if masks == {}:
            return Drawn(notes=(f"{path.name} has an empty entry for it: no masks are known",))
        try:
            sizes = {(int(mask["size"][0]), int(mask["size"][1])) for mask in masks.values()}
            frame = sizes.pop()
            if sizes:
                raise ValueError("masks differ in size")
            runs = {name: rle.parse_runs(mask["counts"], frame) for name, mask in masks.items()}
        except (AttributeError, KeyError, TypeError, IndexError, ValueError, BadResult):
            return Drawn(notes=(f"{path.name} has no COCO run lengths for it: no masks are known",))
        seen = {
            self._spellings.get(name, name): [r.tolist()] for name, r in runs.items() if len(r) > 1
        }
        return Drawn(RunMasks(seen, frame), frame)


def read_segmentations(
    root: Path, names: Sequence[str], spellings: Mapping[str, str]
) -> Segmentations:
    """The segmentations that lie in the root, or in a `CheXlocalize/` in it or beside it."""
    found = Segmentations(spellings)
    for name in names:
        folders = (root, root / "CheXlocalize", root.resolve().parent / "CheXlocalize")
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is not None:
            found.add(path)
    return found
