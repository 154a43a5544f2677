"""Published splits by name: drawn as their code draws them, or loaded from their authors' lists.

    g2dbench   the default: the official split where the reader gives one, else ours; see `splits`
    official   the reader's own split and nothing else
    others     `PUBLISHED`: by the authors' code where that is public, else from lists that the
               user supplies, one file per split or one table with the columns id and split

A published split is used as it is, with its faults named: an image that it puts on two sides
stays on the one that is tested (test before valid before train), and the count is a warning.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from g2dbench.data.readers.covidx import listed_images
from g2dbench.data.readers.siim import table_in as siim_table
from g2dbench.data.tables.csv import read_table
from g2dbench.data.tables.files import open_file
from g2dbench.data.tables.paths import bare_name
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import SPLITS, Record

OURS, OFFICIAL = "g2dbench", "official"

Sides = Mapping[str, set[str]]
"""The splits that each id is in; more than one is a fault of the list."""


@dataclass(frozen=True)
class Published:
    """One data set's split by one name.

    counts: images (or rows, where those are drawn) of train, valid and test, as published; None
    where a paper is silent. draw: from the ids that the tables list and the root; without it the
    authors' lists are needed. source: where it is defined.
    """

    source: str
    counts: tuple[int | None, int | None, int | None] = (None, None, None)
    draw: Callable[[Sequence[str], Path], list[tuple[str, str]]] | None = None


def _thrice(items: Sequence[str], held_out: float | int) -> list[tuple[str, str]]:
    """MGCA's two calls of scikit-learn; the first part of the second one is the test set."""
    from sklearn.model_selection import train_test_split  # slow to import, seldom needed

    train, rest = train_test_split(items, test_size=held_out, random_state=0)
    test, valid = train_test_split(rest, test_size=0.5, random_state=0)
    parts = zip(SPLITS, (train, valid, test), strict=True)
    return [(item, split) for split, part in parts for item in part]


def _siim_rows(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """By row of the table, as MGCA does: an image with several rows can be on two sides."""
    return _thrice(read_table(siim_table(root), ("ImageId",))["ImageId"].tolist(), 0.15 * 2)


def _object_cxr(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """A tenth of the training rows for validation, the official development part for testing."""
    from sklearn.model_selection import train_test_split

    train, dev = (
        [bare_name(name) for name in read_table(root / table, (column,))[column]]
        for table, column in (("train.csv", "image_name"), ("dev.csv", "image_name"))
    )
    parts = zip(SPLITS, (*train_test_split(train, test_size=0.1, random_state=0), dev), strict=True)
    return [(item, split) for split, part in parts for item in part]


def _covidx(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """A fifth of the training lines for validation, by image: patients are on both sides."""
    from sklearn.model_selection import train_test_split

    lists = listed_images(root, ids)
    train, valid = train_test_split(lists["train"], train_size=0.8, random_state=0)
    parts = zip(SPLITS, (train, valid, lists["test"]), strict=True)
    return [(item, split) for split, part in parts for item in part]


def _covidx_as_listed(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """The official lists of a release that has three."""
    return [(item, split) for split, part in listed_images(root, ids).items() for item in part]


_MGCA, _BENCHX, _MRM = "MGCA, mgca/preprocess/{}.py", "BenchX, its lists", "MRM, DatasetsSplits/"

PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("rsna", "mgca"): Published(
        _MGCA.format("rsna"), (18_678, 4_003, 4_003), lambda ids, root: _thrice(ids, 0.15 * 2)
    ),
    ("rsna", "mgca-det"): Published(
        _MGCA.format("rsna"), (16_010, 5_337, 5_337), lambda ids, root: _thrice(ids, 5337 * 2)
    ),
    ("siim", "mgca"): Published(_MGCA.format("siim"), (9_067, 1_944, 1_943), _siim_rows),
    ("object_cxr", "mgca"): Published(_MGCA.format("object_cxr"), (7_200, 800, 1_000), _object_cxr),
    ("covidx", "mgca"): Published(_MGCA.format("covidx"), (None, None, 400), _covidx),
    ("rsna", "mrm"): Published(_MRM, (25_184, 1_500, 3_000)),
    ("rsna", "benchx"): Published(_BENCHX, (18_678, 4_003, 4_003)),
    ("rsna", "medklip"): Published("MedKLIP, its test.csv", (None, None, 5_337)),
    ("siim", "mrm"): Published(_MRM),
    ("siim", "benchx"): Published(_BENCHX, (9_303, 1_372, 1_372)),
    ("nih_cxr14", "mrm"): Published(_MRM, (78_468, 11_219, 22_433)),
    ("nih_cxr14", "benchx"): Published(_BENCHX, (78_468, 11_219, 22_433)),
    ("nih_cxr14", "kad"): Published("KAD, A3_CLIP's test list", (None, None, 25_596)),
    ("nih_cxr14", "medklip"): Published("MedKLIP, its test list", (None, None, 25_596)),
    ("chexpert", "mgca"): Published("MGCA, its lists", (None, 5_000, None)),
    ("chexpert", "mrm"): Published(_MRM, (None, 5_000, 234)),
    ("covidx", "benchx"): Published(
        "BenchX: the lists of CXR-4", (67_863, 8_473, 8_482), _covidx_as_listed
    ),
    ("vindr", "benchx"): Published(_BENCHX, (12_000, 3_000, 3_000)),
    ("tbx11k", "benchx"): Published(_BENCHX, (5_879, 1_260, 1_260)),
}

NAMES = (OURS, OFFICIAL, *sorted({name for _, name in PUBLISHED}))


@dataclass(frozen=True)
class Split:
    """Which split is asked for, and the lists it comes from: (train, valid, test or "", file)."""

    name: str = OURS
    files: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def parse(cls, name: str | None, files: Iterable[str]) -> "Split":
        """From the command line: a preset, and files given as FILE or SPLIT=FILE."""
        pairs = (text.partition("=") if "=" in text else ("", "", text) for text in files)
        found = tuple((side, Path(path)) for side, _, path in pairs)
        unknown = [side for side, _ in found if side and side not in SPLITS]
        if unknown:
            raise Misuse(f"--split-file {unknown[0]}=...: the splits are {', '.join(SPLITS)}")
        if name is not None and name not in NAMES:
            raise Misuse(f"there is no split preset {name!r}: choose one of {', '.join(NAMES)}")
        if found and name in (None, OURS, OFFICIAL):
            raise Misuse("--split-file needs --split with the name of a published split")
        return cls(name or OURS, found)


@dataclass(frozen=True)
class Assigned:
    """Id -> split, for the images that have one, and what is wrong with the split."""

    splits: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def assign(
    asked: Split, name: str, root: Path, records: Sequence[Record], listed: Sequence[str]
) -> Assigned:
    """A published or official split of a data set's records.

    listed: every id that the tables name, also of images that are missing or broken: the authors
    drew from those too. BadData where the counts are not the published ones.
    """
    if asked.name == OFFICIAL:
        pairs = [(record.id, record.split) for record in records if record.split]
        if not pairs:
            raise BadData(f"{name!r} has no official split in {root}: leave --split out for ours")
        return _settle(pairs, records, f"the official split of {name}")
    published = PUBLISHED.get((name, asked.name))
    if published is None:
        known = [preset for data, preset in PUBLISHED if data == name]
        raise Misuse(f"{name!r} has no split {asked.name!r}; it has: {', '.join(known) or 'none'}")
    pairs = _pairs(asked, published, name, root, listed)
    title = f"the split {asked.name} of {name} ({published.source})"
    _check_counts(pairs, published.counts, title)
    return _settle(pairs, records, title)


def _pairs(
    asked: Split, published: Published, name: str, root: Path, listed: Sequence[str]
) -> list[tuple[str, str]]:
    if asked.files:
        known = {_stem(name): name for name in listed}
        pairs = [pair for side, path in asked.files for pair in read_list(path, side)]
        return [(known.get(name, name), split) for name, split in pairs]
    if published.draw is None:
        raise Misuse(
            f"the split {asked.name!r} of {name!r} is a list of its authors ({published.source}): "
            "give it with --split-file train=FILE --split-file valid=FILE --split-file test=FILE"
        )
    try:
        return published.draw(sorted(set(listed)), root)
    except BadData:
        raise
    except ValueError as error:
        raise BadData(
            f"the split {asked.name} of {name} cannot be drawn from {len(listed):,} images "
            f"({error}); leave --split out for our own split"
        ) from error


_ID_COLUMNS = (
    "id", "image_id", "imageid", "patientid", "image index", "image", "image_name", "img_path",
    "path", "filename", "fname", "new_filename",
)  # fmt: skip


def read_list(path: Path, side: str = "") -> list[tuple[str, str]]:
    """(id, split) of each line of a list; `side` is the split of all of them, "" reads a column.

    The id is the name, without folder and ending, in a column of a usual name; without such a
    column, in the line's first cell that ends as an image's name does, or else in the first one.
    Cells are separated by commas, or by blanks where no line has a comma.
    """
    try:
        with open_file(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the split list {path} cannot be read: {error}") from error
    rows = list(csv.reader(lines)) if any("," in line for line in lines) else _blank(lines)
    rows = [row for row in rows if row]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((head.index(known) for known in _ID_COLUMNS if known in head), None)
    if not side and (column is None or "split" not in head):
        raise BadData(f"the split list {path} needs the columns id and split, found: {head}")
    body = rows if column is None else rows[1:]
    found = [
        (_stem(_name(row) if column is None else row[column]), side or row[head.index("split")])
        for row in body
        if len(row) > (column or 0)
    ]
    wrong = next((split for _, split in found if split not in SPLITS), None)
    if wrong is not None:
        raise BadData(f"the split list {path} names the split {wrong!r}, not {', '.join(SPLITS)}")
    return found


def _blank(lines: Iterable[str]) -> list[list[str]]:
    return [line.split() for line in lines]


_ENDINGS = ("png", "jpg", "jpeg", "dcm", "dicom")


def _name(row: Sequence[str]) -> str:
    """The cell of a line without header that names its image."""
    return next((cell for cell in row if cell.strip().lower().endswith(_ENDINGS)), row[0])


def _stem(cell: str) -> str:
    """An image's name: `images/a.b.png` is `a.b`; a name without an ending keeps its points."""
    name = cell.strip().replace("\\", "/").rsplit("/", 1)[-1]
    stem, point, ending = name.rpartition(".")
    return stem if point and ending.lower() in _ENDINGS else name


def _check_counts(
    pairs: Sequence[tuple[str, str]], counts: tuple[int | None, ...], title: str
) -> None:
    found = Counter(split for _, split in pairs)
    for split, count in zip(SPLITS, counts, strict=True):
        if count is not None and found[split] != count:
            raise BadData(
                f"{title} has {count:,} {split} images, these tables or lists give "
                f"{found[split]:,}: they are an excerpt or another edition; "
                "leave --split out for our own split"
            )


def _settle(pairs: Iterable[tuple[str, str]], records: Sequence[Record], title: str) -> Assigned:
    """One split per image, the tested side first, and the faults of what was given."""
    sides: dict[str, set[str]] = defaultdict(set)
    repeated = 0
    for name, split in pairs:
        repeated += split in sides[name]
        sides[name].add(split)
    splits = {name: max(found, key=SPLITS.index) for name, found in sides.items()}
    warnings = [*_shared(sides, title, "images"), *_shared(_by_patient(records, splits), title)]
    if repeated:
        warnings.append(f"{title} names {repeated:,} images again on the side where they are")
    return Assigned(splits, tuple(warnings))


def _by_patient(records: Sequence[Record], splits: Mapping[str, str]) -> Sides:
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.id in splits:
            found[record.patient].add(splits[record.id])
    return found


def _shared(sides: Sides, title: str, what: str = "patients") -> list[str]:
    """Sentences about names that are on two sides."""
    counts = Counter(
        pair
        for found in sides.values()
        for pair in combinations(sorted(found, key=SPLITS.index), 2)
    )
    return [
        f"{title} leaks: {one} and {other} share {count:,} {what}"
        for (one, other), count in sorted(counts.items())
    ]
