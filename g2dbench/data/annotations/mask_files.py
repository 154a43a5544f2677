"""Masks that are stored as image files: they are checked and read on access."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from g2dbench.data.annotations.masks import Mask
from g2dbench.data.images.image_file import picture_levels
from g2dbench.data.tables.files import is_within, read_bytes
from g2dbench.errors import BadData


class FileMasks(Mapping[str, Mask]):
    """Masks of one image from files; the files of a finding are united.

    roots: resolved folders in which the files must lie. BadData on access: a file lies outside,
    `read_mask` refuses it, or the files of a finding differ in size.
    """

    def __init__(self, files: Mapping[str, Sequence[Path]], roots: Sequence[Path]) -> None:
        self._files = {finding: tuple(paths) for finding, paths in files.items()}
        self._roots = tuple(roots)

    def __getitem__(self, finding: str) -> Mask:
        parts = [self._read(path) for path in self._files[finding]]
        if len({part.shape for part in parts}) > 1:
            raise BadData(f"the masks {self._files[finding]} of one image differ in size")
        united: Mask = np.logical_or.reduce(parts)
        return united

    def _read(self, path: Path) -> Mask:
        if not is_within(path, self._roots):
            raise BadData(f"the mask {path} lies outside the data set's folder {self._roots[0]}")
        return read_mask(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def read_mask(path: Path) -> Mask:
    """Read a black and white image as an (H, W) mask: levels above the middle are foreground.

    Foreground may be written as 1 or as about 255. BadData: the file is not an image, or its
    brightest level lies in between, which means a map of several labels.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BadData(f"the mask {path} cannot be read: {error.strerror}") from error
    pixels = picture_levels(data, path)
    levels = np.asarray(pixels, dtype=np.int64)
    highest = int(levels.max())
    if pixels.dtype != np.uint8 or 1 < highest < 128:
        raise BadData(
            f"the mask {path} is not black and white: it has values up to {highest}; "
            "write one 0/1 or 0/255 image per finding"
        )
    mask: Mask = levels >= max(1, (highest + 1) // 2)
    return mask
