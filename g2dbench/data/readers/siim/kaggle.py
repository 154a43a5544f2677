"""SIIM-ACR in two copies that Kaggle users published, with PNG images and masks.

    vbookshelf    stage_1_{train,test}_images.csv    new_filename, ImageId, has_pneumo
                  png_images/<new_filename>, png_masks/<new_filename>
                  new_filename is `{number}_{train|test}_{0|1}_.png`, its last number has_pneumo
    iafoss        train/<ImageId>.png, masks/<ImageId>.png; no table

Ids are ImageId, as in the original layout. PNG files contain no patient id, so that each image
counts as a patient.
"""

from collections.abc import Iterator
from pathlib import Path

from g2dbench.data.annotations.mask_files import FileMasks, read_mask
from g2dbench.data.tables.csv import Cells, read_table
from g2dbench.data.tables.files import folders, index_images, is_within, trusted_roots
from g2dbench.data.tables.paths import bare_name
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Record

NO_MASK = "its table says pneumothorax, and there is no mask file, so that its mask is not known"
TABLES = ("stage_1_train_images.csv", "stage_1_test_images.csv")


def is_renumbered(root: Path) -> bool:
    """Return whether the root has the layout of vbookshelf."""
    return any((root / table).is_file() for table in TABLES)


def is_flat(root: Path) -> bool:
    """Return whether the root has the layout of iafoss."""
    return (root / "train").is_dir() and (root / "masks").is_dir()


def read_renumbered(root: Path, finding: str) -> Iterator[Found]:
    """Yield a record for each row of vbookshelf's tables."""
    images = index_images(folders(root, ("png_images",)), (".png",))
    masks = index_images(folders(root, ("png_masks",)), (".png",))
    roots = trusted_roots(root)
    for table in TABLES:
        if not (root / table).is_file():
            continue
        rows = read_table(root / table, ("new_filename", "ImageId", "has_pneumo"))
        for row in rows.to_dict("records"):
            where = f"line {row['line']} of {table}"
            name, key = row["ImageId"] or where, bare_name(row["new_filename"])
            if key not in images:
                yield Missing(name, None)
                continue
            try:
                positive = _positive(row, where)
                yield _record(name, images[key], masks.get(key), positive, finding, roots)
            except BadData as error:
                yield Rejected(name, images[key], str(error))


def read_flat(root: Path, finding: str) -> Iterator[Found]:
    """Yield a record for each image in iafoss' train/; it is positive if its mask is not empty."""
    images = index_images(folders(root, ("train",)), (".png",))
    masks = index_images(folders(root, ("masks",)), (".png",))
    roots = trusted_roots(root)
    for name, path in sorted(images.items()):
        mask = masks.get(name)
        try:
            if mask is None:
                yield Missing(f"{name}, its mask", path)
                continue
            if not is_within(mask, roots):
                raise BadData(f"the mask {mask} lies outside the data set's folder {root}")
            yield _record(name, path, mask, bool(read_mask(mask).any()), finding, roots)
        except BadData as error:
            yield Rejected(name, path, str(error))


def _record(
    name: str, path: Path, mask: Path | None, positive: bool, finding: str, roots: list[Path]
) -> Record:
    files = {finding: [mask]} if positive and mask is not None else {}
    is_known = mask is not None or not positive
    return Record(
        id=name,
        path=path,
        patient=name,
        labels={finding: int(positive)},
        masks=FileMasks(files, roots) if is_known else None,
        notes=() if is_known else (NO_MASK,),
    )


def _positive(row: Cells, where: str) -> bool:
    """Return the label, which the table and the file name contain; BadData if they differ."""
    value, named = row["has_pneumo"], bare_name(row["new_filename"]).split("_")
    if value not in ("0", "1"):
        raise BadData(f"{where}: has_pneumo is {value!r}, not 0 or 1")
    if len(named) < 3 or named[2] != value:
        raise BadData(f"{where}: has_pneumo {value} contradicts the name {row['new_filename']!r}")
    return bool(value == "1")
