"""The pixel frame of VinDr-CXR's boxes: a DICOM file's own, or the original's size from a table.

Boxes of VinDr-CXR and VinBigData are in pixels of the original DICOM file. Kaggle's PNG and JPEG
copies are smaller; what comes with them names the original sizes:

    train_meta.csv          image_id, dim0, dim1     rows and columns of the original
    train.csv               with further columns width, height

A copy whose original size is not known is rejected, for its boxes would silently lie elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path

from g2dbench.data.images.dicom import Header, read_header
from g2dbench.data.tables.csv import header, number, read_table
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record

NOTHING = Header(None, None, None, None, None)


class Frames:
    """The frames of one part ("train" or "test") of a VinDr folder."""

    def __init__(self, root: Path, part: str) -> None:
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
        boxes: tuple[Box, ...],
        split: str | None,
    ) -> Record:
        """The record of one image; BadData if the boxes' frame is not known."""
        is_original = path.suffix.lower() in (".dcm", ".dicom")
        frame = None if is_original else self._sizes.get(name)
        if boxes and not is_original and frame is None:
            raise BadData(
                f"{path} is a copy, and the boxes of {name} are in pixels of the original: give "
                f"its size in {self._wanted} (image_id,dim0,dim1 with dim0 rows and dim1 columns)"
            )
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
