"""SIIM-ACR pneumothorax segmentation: the original layout, and Kaggle's copies (`siim_copies`).

    stage_2_train.csv or train-rle.csv   ImageId, EncodedPixels (with a space before it in the
                                         latter); negative is -1
    dicom-images-train/<StudyUID>/<SeriesUID>/<ImageId>.dcm, and dicom-images-test/ likewise

An image has one row per run-length mask; the mask is their union. The runs are pairs (gap, length)
in column-major order in a 1024 x 1024 frame, with the gap counted from the end of the previous run,
like COCO's run lengths. Of 12,047 images, 2,669 are positive; the published split sizes are
8,433 / 1,807 / 1,807.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.annotations.masks import RunMasks
from g2dbench.data.images.dicom import read_header
from g2dbench.data.readers.siim import kaggle
from g2dbench.data.splits.published import PublishedSplit, mgca_split
from g2dbench.data.tables.csv import (
    Cells,
    by_key,
    choose_table,
    has_table,
    note_unread,
    read_table,
)
from g2dbench.data.tables.files import check_layout, folders, index_images
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Record

CARD = DatasetCard(
    name="siim",
    summary="SIIM-ACR pneumothorax challenge: masks on NIH radiographs (DICOM, or PNG copies).",
    offers=("labels", "masks"),
    findings=("Pneumothorax",),
    url="https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
    licence="Competition rules: non-commercial research and education",
    layout=("stage_2_train.csv (or train-rle.csv)", "dicom-images-train/"),
)


def _mgca_split(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """By row of the table, as MGCA does: an image with several rows can be on two sides."""
    rows = read_table(table_in(root), ("ImageId",))["ImageId"].tolist()
    return mgca_split(rows, 0.15 * 2)


PUBLISHED_SPLITS = {
    "mgca": PublishedSplit("MGCA, mgca/preprocess/siim.py", (9_067, 1_944, 1_943), _mgca_split),
    "mrm": PublishedSplit("MRM, DatasetsSplits/"),
    "benchx": PublishedSplit("BenchX, its lists", (9_303, 1_372, 1_372)),
}

SPLIT = (0.7, 0.15, 0.15)

TABLE = "train-rle.csv"
TABLES = ("stage_2_train.csv", TABLE)
"""File names of the table since the second stage, and before."""
FRAME = (1024, 1024)
FINDING = CARD.findings[0]
NEGATIVE = "-1"


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each ImageId, in any of the three layouts.

    BadData: the table, a column or the image folder is missing.
    """
    check_layout(root)
    if kaggle.is_renumbered(root):
        yield from kaggle.read_renumbered(root, FINDING)
    elif kaggle.is_flat(root) and not has_table(table_in(root)):
        yield from kaggle.read_flat(root, FINDING)
    else:
        yield from _original(root)


def table_in(root: Path) -> Path:
    """Return the table of run lengths in a root, under either of its names."""
    return choose_table(root, TABLES)


def _original(root: Path) -> Iterator[Found]:
    chosen = table_in(root)
    table = read_table(chosen, ("ImageId", "EncodedPixels"))
    yield from note_unread(root, TABLES)
    places = folders(root, ("dicom-images-train", "dicom-images-test"))
    images = index_images(places, (".dcm",))
    for name, rows in by_key(table, "ImageId").items():
        path = images.get(name)
        if path is None:
            yield Missing(name or f"line {rows[0]['line']}", None)
            continue
        try:
            yield _record(name, path, rows, chosen.name)
        except BadData as error:
            yield Rejected(name, path, str(error))


def _record(name: str, path: Path, rows: list[Cells], table: str) -> Record:
    codes = {row["line"]: row["EncodedPixels"] for row in rows}
    drawn = {line: code for line, code in codes.items() if code != NEGATIVE}
    if drawn and len(drawn) < len(codes):
        raise BadData(f"line {min(codes)} of {table}: the image has both a mask and {NEGATIVE}")
    masks = [parse_runs(code, f"line {line} of {table}") for line, code in drawn.items()]
    header = read_header(path)
    return Record(
        id=name,
        path=path,
        patient=header.patient or name,
        study=header.study,
        view=header.view,
        sex=header.sex,
        age=header.age,
        labels={FINDING: int(bool(masks))},
        masks=RunMasks({FINDING: masks} if masks else {}, FRAME),
        frame=FRAME,
    )


def parse_runs(code: str, where: str) -> list[int]:
    """Parse the (gap, length) pairs of a cell into a flat list; BadData names `where`."""
    try:
        runs = [int(part) for part in code.split()]
    except ValueError:
        runs = []
    if not runs or len(runs) % 2 or min(runs) < 0:
        raise BadData(f"{where}: {code[:40]!r} is no list of (gap, length) pairs")
    if sum(runs) > FRAME[0] * FRAME[1]:
        raise BadData(f"{where}: the runs cover {sum(runs)} pixels, more than 1024 x 1024")
    return runs
