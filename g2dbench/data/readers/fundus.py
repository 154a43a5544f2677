"""Retinal photographs with vessel masks, DRIVE and CHASE_DB1: transfer to another modality.

    DRIVE/training/images/21_training.tif, DRIVE/training/1st_manual/21_manual1.gif
    DRIVE/test/images/01_test.tif,         DRIVE/test/1st_manual/01_manual1.gif
    CHASEDB1/Image_01L.jpg,                CHASEDB1/Image_01L_1stHO.png

One of both sets is enough, and the root may be the folder of the set itself. Masks are those of the
first observer. Color images are converted to gray. DRIVE has 20 official test images. CHASE_DB1 has
no official split; its last eight images (eyes 11 to 14) are the test set, as is common. The two
eyes of a pair belong to one patient.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.annotations.mask_files import FileMasks
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.tables.files import check_layout, index_images, trusted_roots
from g2dbench.data.tables.records import Found, Missing
from g2dbench.errors import BadData
from g2dbench.sample import Record

CARD = DatasetCard(
    name="fundus",
    summary="DRIVE and CHASE_DB1: retinal photographs with vessel masks.",
    offers=("masks",),
    findings=("Vessel",),
    url="https://drive.grand-challenge.org",
    licence="Research use; cite the owners",
    layout=("DRIVE/training/", "DRIVE/test/", "CHASEDB1/ (or either alone)"),
)

SPLIT = (0.8, 0.2, 0.0)
"""Shares of the training images; the test images are fixed, see above."""

FINDING = CARD.findings[0]
CHASE_NAMES = ("CHASEDB1", "CHASE_DB1", "CHASE")
CHASE_NAME = re.compile(r"Image_(\d\d)[LR]")
FIRST_CHASE_TEST = 11


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each photograph; one without the first observer's mask is Missing.

    BadData: the root holds neither layout.
    """
    check_layout(root)
    drive = _find_set(root, "DRIVE", "training")
    homes = (_find_set(root, name, "Image_01L.jpg") for name in CHASE_NAMES)
    chase = next((home for home in homes if home is not None), None)
    if drive is None and chase is None:
        raise BadData(f"{root} holds neither DRIVE/training/ nor CHASEDB1/Image_01L.jpg")
    roots = trusted_roots(root)
    if drive is not None:
        yield from _drive(drive, "training", None, roots)
        yield from _drive(drive, "test", "test", roots)
    if chase is not None:
        yield from _chase(chase, roots)


def _find_set(root: Path, name: str, sign: str) -> Path | None:
    """Return the folder of a set, below the root or the root itself, if it contains `sign`."""
    return next((place for place in (root / name, root) if (place / sign).exists()), None)


def _drive(home: Path, part: str, split: str | None, roots: list[Path]) -> Iterator[Found]:
    images = index_images([home / part / "images"], EXTENSIONS)
    masks = index_images([home / part / "1st_manual"], EXTENSIONS)
    for name, path in sorted(images.items()):
        number = name.partition("_")[0]
        yield _found(f"drive_{number}", f"drive_{number}", path, masks.get(f"{number}_manual1"),
                     split, roots)  # fmt: skip


def _chase(home: Path, roots: list[Path]) -> Iterator[Found]:
    images = index_images([home], EXTENSIONS)
    for name, path in sorted(images.items()):
        if (match := CHASE_NAME.fullmatch(name)) is None:
            continue
        split = "test" if int(match[1]) >= FIRST_CHASE_TEST else None
        yield _found(f"chase_{name.removeprefix('Image_')}", f"chase_{match[1]}", path,
                     images.get(f"{name}_1stHO"), split, roots)  # fmt: skip


def _found(
    name: str, patient: str, path: Path, mask: Path | None, split: str | None, roots: list[Path]
) -> Found:
    if mask is None:
        return Missing(f"{name}, its mask", path)
    return Record(
        id=name,
        path=path,
        patient=patient,
        view="Fundus",
        split=split,
        masks=FileMasks({FINDING: [mask]}, roots),
    )
