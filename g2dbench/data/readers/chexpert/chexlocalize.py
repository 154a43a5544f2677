"""CheXlocalize's segmentations of CheXpert: `{image: {finding: {size, counts}}}`, COCO run lengths.

    gt_segmentations_val.json, gt_segmentations_test.json

An image is named `patient64622_study1_view1_frontal`; size is [height, width] of the full image.
If a mask of an image cannot be read, none of its masks is used, and a note reports it.
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


class ImageMasks(NamedTuple):
    """The masks of an image in their frame (H, W), and notes about masks that cannot be read."""

    masks: RunMasks | None = None
    frame: Frame | None = None
    notes: tuple[str, ...] = ()


class Segmentations:
    """The masks of all images, by the name of the image."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        """spellings: name of a finding here -> its name in the labels, if they differ."""
        self._spellings = spellings
        self._images: dict[str, tuple[Path, Any]] = {}

    def add(self, path: Path) -> None:
        """Read a file and add its masks; BadData if it is not a file of segmentations."""
        try:
            found = json.loads(read_bytes(path))
        except (OSError, ValueError, RecursionError) as error:
            raise BadData(f"the segmentations {path} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise BadData(f"the segmentations {path} are no mapping from image to findings")
        self._images |= {name: (path, masks) for name, masks in found.items()}

    def masks_of(self, image: str) -> ImageMasks:
        """Return the masks of an image, without findings whose mask is empty.

        Without segmentation: no masks. With a damaged entry: no masks, but a note.
        """
        if image not in self._images:
            return ImageMasks()
        path, masks = self._images[image]
        if masks == {}:
            return ImageMasks(notes=(f"{path.name} has an empty entry for it: no masks are known",))
        try:
            sizes = {(int(mask["size"][0]), int(mask["size"][1])) for mask in masks.values()}
            frame = sizes.pop()
            if sizes:
                raise ValueError("masks differ in size")
            runs = {name: rle.parse_runs(mask["counts"], frame) for name, mask in masks.items()}
        except (AttributeError, KeyError, TypeError, IndexError, ValueError, BadResult):
            return ImageMasks(
                notes=(f"{path.name} has no COCO run lengths for it: no masks are known",)
            )
        seen = {
            self._spellings.get(name, name): [r.tolist()] for name, r in runs.items() if len(r) > 1
        }
        return ImageMasks(RunMasks(seen, frame), frame)


def read_segmentations(
    root: Path, names: Sequence[str], spellings: Mapping[str, str]
) -> Segmentations:
    """Read the segmentations in the root, or in a folder `CheXlocalize/` in it or beside it."""
    found = Segmentations(spellings)
    for name in names:
        folders = (root, root / "CheXlocalize", root.resolve().parent / "CheXlocalize")
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is not None:
            found.add(path)
    return found
