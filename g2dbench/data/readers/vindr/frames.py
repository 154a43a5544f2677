"""The pixel frame of VinDr-CXR's boxes: a DICOM file's own, or the original's size from a table.

Boxes of VinDr-CXR and VinBigData are in pixels of the original DICOM file. Kaggle's PNG and JPEG
copies are smaller; what comes with them names the original sizes:

    train_meta.csv          image_id, dim0, dim1     rows and columns of the original
    train.csv               with further columns width, height

A copy whose original size is not known is rejected, for its boxes would silently lie elsewhere,
and so is one of other proportions: whether it was stretched, cut or padded, nothing tells. The
option `copies=stretched` says that all of them were stretched; their boxes then are as well.
"""

from collections.abc import Mapping
from pathlib import Path

from g2dbench.data.annotations.geometry import check_frame
from g2dbench.data.images.dicom import Header, read_header
from g2dbench.data.images.image_file import picture_size
from g2dbench.data.tables.csv import header, number, read_table
from g2dbench.data.tables.records import NO_CORNERS
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Box, Record

NOTHING = Header(None, None, None, None, None)

COPIES, STRETCHED = "copies", "stretched"
"""An option of the readers, and its only value."""


class Frames:
    """The frames of one part ("train" or "test") of a VinDr folder."""

    def __init__(self, root: Path, part: str, options: Mapping[str, str]) -> None:
        """Misuse if the option `copies` has a value that it cannot have."""
        told = options.get(COPIES, STRETCHED)
        if told != STRETCHED:
            raise Misuse(f"--option {COPIES}={told}: the only value is {STRETCHED}")
        self._is_stretched = COPIES in options
        self._sizes: dict[str, tuple[int, int]] = {}
        self._wanted = f"{part}_meta.csv"
        known = ((self._wanted, ("dim0", "dim1")), (f"{part}.csv", ("height", "width")))
        for name, columns in known:
            path = root / name
            if path.is_file() and set(columns) <= set(header(path)):
                self._sizes |= _sizes(path, columns)

    def record(
        self,
        name: str,
        path: Path,
        labels: Mapping[str, int],
        boxes: tuple[Box, ...] | None,
        split: str | None,
    ) -> Record:
        """The record of one image, boxes None where not all are known.

        BadData if the boxes' frame is not known, or if the image is no copy of it.
        """
        is_original = path.suffix.lower() in (".dcm", ".dicom")
        frame = None if is_original else self._sizes.get(name)
        if boxes and not is_original and frame is None:
            raise BadData(
                f"{path} is a copy, and the boxes of {name} are in pixels of the original: give "
                f"its size in {self._wanted} (image_id,dim0,dim1 with dim0 rows and dim1 columns)"
            )
        if frame is not None:
            boxes, frame = self._on_copy(path, boxes, frame)
        told = read_header(path) if is_original else NOTHING
        return Record(
            id=name,
            path=path,
            patient=told.patient or name,
            study=told.study,
            view=told.view,
            sex=told.sex,
            age=told.age,
            split=split,
            labels=labels,
            boxes=boxes,
            frame=frame,
            notes=(NO_CORNERS,) if boxes is None else (),
        )

    def _on_copy(
        self, path: Path, boxes: tuple[Box, ...] | None, frame: tuple[int, int]
    ) -> tuple[tuple[Box, ...] | None, tuple[int, int]]:
        """The boxes and their frame on a copy: as they are, or stretched along with it."""
        file = picture_size(path)
        if self._is_stretched:
            down, across = file[0] / frame[0], file[1] / frame[1]
            return None if boxes is None else _scaled(boxes, across, down), file
        try:
            check_frame(frame, file)
        except BadData as error:
            raise BadData(
                f"{path}: {error}; if all copies were resized without keeping them, say --option "
                f"{COPIES}={STRETCHED}"
            ) from error
        return boxes, frame


def _scaled(boxes: tuple[Box, ...], across: float, down: float) -> tuple[Box, ...]:
    return tuple(
        Box(box.finding, box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
        for box in boxes
    )


def _sizes(path: Path, columns: tuple[str, str]) -> dict[str, tuple[int, int]]:
    """(height, width) by image_id."""
    found = {}
    for row in (
        read_table(path, ("image_id", *columns)).drop_duplicates("image_id").to_dict("records")
    ):
        height, width = (
            number(row[name], f"line {row['line']} of {path.name}: {name}") for name in columns
        )
        if min(height, width) < 1:
            raise BadData(f"line {row['line']} of {path.name}: an image of {height} x {width}")
        found[str(row["image_id"])] = (int(height), int(width))
    return found
