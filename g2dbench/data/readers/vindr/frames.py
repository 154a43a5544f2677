"""The coordinate frame of VinDr-CXR's boxes: the size of the original DICOM image.

Boxes of VinDr-CXR and VinBigData are in pixels of the original DICOM file. Kaggle's PNG and JPEG
copies are smaller; tables that come with them have the original sizes:

    train_meta.csv          image_id, dim0, dim1     rows and columns of the original
    train.csv               with further columns width, height

A copy whose original size is unknown is rejected, because its boxes would be in the wrong place. A
copy with another aspect ratio is rejected too, because it is not known whether it was stretched,
cropped or padded. With the option `copies=stretched`, all copies count as stretched, and their
boxes are stretched in the same way.
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

NO_HEADER = Header(None, None, None, None, None)

COPIES, STRETCHED = "copies", "stretched"
"""An option of the readers, and its only value."""


class BoxFrames:
    """The frames of the "train" or "test" images of a VinDr folder, by image_id."""

    def __init__(self, root: Path, part: str, options: Mapping[str, str]) -> None:
        """Read the tables of original sizes; Misuse if the option `copies` has an invalid value."""
        value = options.get(COPIES, STRETCHED)
        if value != STRETCHED:
            raise Misuse(f"--option {COPIES}={value}: the only value is {STRETCHED}")
        self._are_copies_stretched = COPIES in options
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
        """Return the record of an image; boxes: None if not all of them are known.

        Raises BadData if the frame of the boxes is unknown, or the image does not fit it.
        """
        is_original = path.suffix.lower() in (".dcm", ".dicom")
        frame = None if is_original else self._sizes.get(name)
        if boxes and not is_original and frame is None:
            raise BadData(
                f"{path} is a copy, and the boxes of {name} are in pixels of the original: give "
                f"its size in {self._wanted} (image_id,dim0,dim1 with dim0 rows and dim1 columns)"
            )
        if frame is not None:
            boxes, frame = self._fit_to_copy(path, boxes, frame)
        info = read_header(path) if is_original else NO_HEADER
        return Record(
            id=name,
            path=path,
            patient=info.patient or name,
            study=info.study,
            view=info.view,
            sex=info.sex,
            age=info.age,
            split=split,
            labels=labels,
            boxes=boxes,
            frame=frame,
            notes=(NO_CORNERS,) if boxes is None else (),
        )

    def _fit_to_copy(
        self, path: Path, boxes: tuple[Box, ...] | None, frame: tuple[int, int]
    ) -> tuple[tuple[Box, ...] | None, tuple[int, int]]:
        """Return the boxes of a copy and their frame: unchanged, or both stretched."""
        file = picture_size(path)
        if self._are_copies_stretched:
            down, across = file[0] / frame[0], file[1] / frame[1]
            return None if boxes is None else _scaled(boxes, across, down), file
        try:
            check_frame(frame, file)
        except BadData as error:
            raise BadData(
                f"{path}: {error}; if all copies were resized without keeping them, use --option "
                f"{COPIES}={STRETCHED}"
            ) from error
        return boxes, frame


def _scaled(boxes: tuple[Box, ...], across: float, down: float) -> tuple[Box, ...]:
    return tuple(
        Box(box.finding, box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
        for box in boxes
    )


def _sizes(path: Path, columns: tuple[str, str]) -> dict[str, tuple[int, int]]:
    """Read a table of original sizes: (height, width) by image_id."""
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
