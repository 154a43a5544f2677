"""Object-CXR: foreign objects on chest radiographs as rectangles, ellipses and polygons.

    train.csv, dev.csv, test.csv    image_name (or image_path), annotation
    train/00001.jpg, dev/08001.jpg, test/09001.jpg

An annotation joins objects by `;`, each `TYPE x y x y ...` in pixels of the image: 0 a rectangle
and 1 an ellipse by two opposite corners, 2 a polygon by its corners. An empty one means no object.
Boxes are tight; masks are the shapes themselves, not their boxes (BenchX draws ellipses as boxes).
8,000 / 1,000 / 1,000 images, half of each with objects.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.annotations.shapes import Ellipse, Polygon, Rectangle, Shape, ShapeMasks
from g2dbench.data.images.image_file import EXTENSIONS, picture_size
from g2dbench.data.splits.published import PublishedSplit, in_splits
from g2dbench.data.tables.csv import number, read_table
from g2dbench.data.tables.files import check_layout, folders, index_images
from g2dbench.data.tables.paths import bare_name
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData
from g2dbench.sample import Box, Record

CARD = DatasetCard(
    name="object_cxr",
    summary="Object-CXR: foreign objects drawn as rectangles, ellipses and polygons.",
    offers=("labels", "boxes", "masks"),
    findings=("Foreign Object",),
    url="https://github.com/hlk-1135/object-CXR",
    licence="CC BY-NC 4.0",
    layout=("train.csv", "dev.csv", "test.csv", "train/", "dev/", "test/"),
)


def _mgca_split(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """A tenth of the training rows for validation, the official development part for testing."""
    from sklearn.model_selection import train_test_split

    train, dev = (
        [bare_name(name) for name in read_table(root / table, ("image_name",))["image_name"]]
        for table in ("train.csv", "dev.csv")
    )
    return in_splits((*train_test_split(train, test_size=0.1, random_state=0), dev))


PUBLISHED_SPLITS = {
    "mgca": PublishedSplit("MGCA, mgca/preprocess/object_cxr.py", (7_200, 800, 1_000), _mgca_split),
}

PARTS = {"train": "train", "dev": "valid", "test": "test"}
FINDING = CARD.findings[0]
RECTANGLE, ELLIPSE, POLYGON = "0", "1", "2"
IMAGE = ("image_name", "image_path")
BROKEN = "one of its objects is broken, so that the image's boxes and masks are not known"


def read(root: Path) -> Iterator[Found]:
    """Yield a record for each row of the three tables; each table is optional.

    BadData: no table, a column or every image folder is missing.
    """
    check_layout(root)
    tables = {part: root / f"{part}.csv" for part in PARTS if (root / f"{part}.csv").is_file()}
    if not tables:
        read_table(root / "train.csv", ())
    folders(root, tuple(tables))
    for part, table in tables.items():
        yield from _part(root / part, table, PARTS[part])


def _part(folder: Path, table: Path, split: str) -> Iterator[Found]:
    images = index_images([folder], EXTENSIONS)
    for row in read_table(table, (IMAGE, "annotation")).to_dict("records"):
        where = f"line {row['line']} of {table.name}"
        # test.csv says `test/09001.jpg`, the others `00001.jpg`.
        name = bare_name(row[IMAGE[0]])
        path = images.get(name)
        if path is None:
            yield Missing(name or where, None)
            continue
        try:
            yield _record(name, path, row["annotation"], where, split)
        except BadData as error:
            yield Rejected(name, path, str(error))


def _record(name: str, path: Path, annotation: str, where: str, split: str) -> Record:
    shapes, broken = parse_shapes(annotation, where)
    if broken and not shapes:
        raise BadData(broken[0])
    frame = picture_size(path)
    return Record(
        id=name,
        path=path,
        patient=name,
        split=split,
        labels={FINDING: int(bool(shapes))},
        boxes=None if broken else tuple(shape.box for shape in shapes),
        masks=None if broken else ShapeMasks(shapes, frame),
        frame=frame,
        notes=(BROKEN,) if broken else (),
    )


def parse_shapes(annotation: str, where: str) -> tuple[list[Shape], list[str]]:
    """Parse the objects of a cell; also returns a sentence about each invalid one."""
    shapes, broken = [], []
    for words in (part.split() for part in annotation.split(";")):
        try:
            shapes += [_shape(words, where)] if words else []
        except BadData as error:
            broken.append(str(error))
    return shapes, broken


def _shape(words: list[str], where: str) -> Shape:
    kind, values = words[0], [number(word, f"{where}: a coordinate") for word in words[1:]]
    if kind in (RECTANGLE, ELLIPSE) and len(values) == 4:
        x, y = sorted(values[0::2]), sorted(values[1::2])
        box = Box(FINDING, x[0], y[0], x[1], y[1])
        return Rectangle(box) if kind == RECTANGLE else Ellipse(box)
    if kind == POLYGON and len(values) >= 6 and len(values) % 2 == 0:
        return Polygon(FINDING, tuple(zip(values[0::2], values[1::2], strict=True)))
    raise BadData(
        f"{where}: {' '.join(words)[:60]!r} is no object: 0 or 1 with two corners, 2 with three "
        "corners or more"
    )
