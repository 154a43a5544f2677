"""Masks from a CSV, one row per image and finding, or from a folder of PNGs (`mask_images.py`).

Columns id, finding, and counts or mask; optionally height and width. `counts` are COCO's run
lengths, column by column and background first: numbers separated by blanks, or COCO's compressed
text. `mask` is the path of a PNG, from the folder of the CSV. An empty cell is an empty mask. Sizes
are those of the prepared images.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from g2dbench.data.annotations import rle
from g2dbench.data.tables.columns import find_column
from g2dbench.data.tables.csv import header, number, read_table
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, G2DBenchError
from g2dbench.evaluation.imported.mask_images import find_mask_files, read_mask_image
from g2dbench.evaluation.imported.rows import check_complete, locate
from g2dbench.evaluation.segmentation.masks import mask_of, present_findings
from g2dbench.task import Run


def read_masks(
    path: Path, run: Run[Any], only: Sequence[str] | None
) -> Iterator[dict[str, object]]:
    """Yield the row of each annotated test image and finding, as the task `seg` stores it.

    path: a CSV or a folder. run.test: annotated images only. only: the findings that count; None
    for all with a mask.
    """
    findings = sorted(frozenset().union(*present_findings(run.test, only)))
    if not findings:
        raise BadData(f"{run.test.card.name} has no mask in its test split")
    masks = _folder_masks if path.is_dir() else _table_masks
    mask_at = masks(path, run.test, findings)
    for row, sample in enumerate(run.test):
        height, width = sample.image.shape
        for place, finding in enumerate(findings):
            yield {
                "id": sample.id,
                "patient": sample.patient,
                "finding": finding,
                "height": height,
                "width": width,
                "truth": rle.encode(mask_of(sample, finding)),
                "predicted": mask_at(row, place, (height, width)),
            }


MaskAt = Callable[[int, int, tuple[int, int]], str]
"""Position of the image, of the finding, and the image's size -> the mask as it is stored."""


def _folder_masks(path: Path, test: Dataset, findings: Sequence[str]) -> MaskAt:
    files = find_mask_files(path, test, findings)
    return lambda row, place, size: rle.encode(read_mask_image(files[row, place], size))


def _table_masks(path: Path, test: Dataset, findings: Sequence[str]) -> MaskAt:
    names = header(path)
    if find_column(names, "counts") is None and find_column(names, "mask") is None:
        raise BadData(
            f"{path} has no column 'counts' (run lengths) or 'mask' (paths of PNGs), but "
            f"{', '.join(names)}"
        )
    table = read_table(path, ("id", "finding"), ("counts", "mask", "height", "width"))
    rows, places = locate(path, table, test, findings)
    given = np.zeros((len(test), len(findings)), bool)
    given[rows, places] = True
    check_complete(path, given, test, findings)
    keys = zip(rows.tolist(), places.tolist(), strict=True)
    cells = dict(zip(keys, table.to_dict("records"), strict=True))
    return lambda row, place, size: _mask(path, cells[row, place], size)


def _mask(path: Path, cell: dict[Any, Any], size: tuple[int, int]) -> str:
    """The mask as the text that is stored."""
    try:
        stated = [number(cell[n], n) if cell[n] else s for n, s in zip(("height", "width"), size,
                  strict=True)]  # fmt: skip
        if stated != list(size):
            raise BadData(
                f"the mask has {stated[0]:g} x {stated[1]:g} pixels, the prepared image "
                f"{size[0]} x {size[1]}: resize it (`g2dbench data list` names the size)"
            )
        if cell["mask"] and cell["counts"]:
            raise BadData("the row has both counts and mask: give one of them")
        if cell["mask"]:
            return rle.encode(read_mask_image(path.parent / cell["mask"], size))
        return rle.encode(_pixels(cell["counts"], size))
    except G2DBenchError as error:
        raise BadData(f"{path}, line {cell['line']}: {error}") from error


def _pixels(text: str, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if not text:
        return np.zeros(size, bool)
    words = text.split()
    if not all(word.isascii() and word.isdecimal() for word in words):
        return rle.decode(text, size)
    if len(words) == 1 and int(words[0][:12]) != size[0] * size[1]:
        return rle.decode(text, size)  # compressed text may consist of digits
    if any(len(word) > 12 for word in words):
        raise BadData("a run length has more than 12 digits")
    runs = [int(word) for word in words]
    if sum(runs) != size[0] * size[1]:
        raise BadData(
            f"the run lengths cover {sum(runs)} pixels, the prepared image has {size[0]} x "
            f"{size[1]}: resize the mask, and write the last run too"
        )
    return rle.from_runs(runs, *size)
