"""Published splits by name: computed as the authors' code does, or loaded from the authors' lists.

    g2dbench   the default: the official split if the reader has one, else that of `stratified`
    official   only the official split
    others     `PUBLISHED_SPLITS` of the data set's reader: computed if the authors' code is public,
               else read from lists that the user supplies: one file per split, or one table with
               the columns id and split

A published split is used with its faults, which are reported: an image that is listed in two splits
is assigned to test before valid before train, and a warning counts such images.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from g2dbench.data.tables.files import open_file
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import SPLITS, Record

OURS, OFFICIAL = "g2dbench", "official"

SplitsByName = Mapping[str, set[str]]
"""The splits in which each id is listed; more than one is a fault of the list."""


@dataclass(frozen=True)
class PublishedSplit:
    """A published split of one data set.

    source: where it is defined. counts: published numbers of images (or rows, if rows are split) in
    train, valid and test; None if the paper does not state one. draw: computes (id, split) from the
    listed ids and the root; None if the authors' lists are needed.
    """

    source: str
    counts: tuple[int | None, int | None, int | None] = (None, None, None)
    draw: Callable[[Sequence[str], Path], list[tuple[str, str]]] | None = None


def mgca_split(items: Sequence[str], held_out: float | int) -> list[tuple[str, str]]:
    """Split items by the two scikit-learn calls of MGCA; returns (item, split).

    held_out: the share or the number of items that are not used for training. The second call
    divides them into test and valid, in this order.
    """
    from sklearn.model_selection import train_test_split  # slow to import, seldom needed

    train, rest = train_test_split(items, test_size=held_out, random_state=0)
    test, valid = train_test_split(rest, test_size=0.5, random_state=0)
    return in_splits((train, valid, test))


def in_splits(parts: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Return (item, split) of all items, from the items of train, valid and test."""
    named = zip(SPLITS, parts, strict=True)
    return [(item, split) for split, part in named for item in part]


@dataclass(frozen=True)
class Split:
    """The choice of a split.

    files: its lists as (split, file); the split is "" for a table with a column of splits.
    """

    name: str = OURS
    files: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def parse(cls, name: str | None, files: Iterable[str]) -> "Split":
        """Parse the options --split NAME and --split-file FILE or SPLIT=FILE; Misuse if invalid."""
        pairs = (text.partition("=") if "=" in text else ("", "", text) for text in files)
        found = tuple((side, Path(path)) for side, _, path in pairs)
        unknown = [side for side, _ in found if side and side not in SPLITS]
        if unknown:
            raise Misuse(f"--split-file {unknown[0]}=...: the splits are {', '.join(SPLITS)}")
        if found and name in (None, OURS, OFFICIAL):
            raise Misuse("--split-file needs --split with the name of a published split")
        return cls(name or OURS, found)


@dataclass(frozen=True)
class SplitAssignment:
    """The split of each image that has one, and warnings about faults of the split."""

    splits: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def published_splits(reader: object) -> Mapping[str, PublishedSplit]:
    """Return the published splits that a reader's module defines; empty if it defines none."""
    found: Mapping[str, PublishedSplit] = getattr(reader, "PUBLISHED_SPLITS", {})
    return found


def check_split(choice: Split, name: str, reader: object) -> None:
    """Misuse unless the data set `name` has this split."""
    known = [OURS, OFFICIAL, *published_splits(reader)]
    if choice.name not in known:
        raise Misuse(f"{name!r} has no split {choice.name!r}; it has: {', '.join(known)}")


def assign(
    choice: Split,
    name: str,
    reader: object,
    root: Path,
    records: Sequence[Record],
    listed: Sequence[str],
) -> SplitAssignment:
    """Assign the records of a data set to a published or to the official split.

    reader: the module that defines the published splits. listed: every id in the tables, missing
    and broken images included, because the authors split those too. BadData if the counts differ
    from the published ones, or if there is no official split.
    """
    check_split(choice, name, reader)
    if choice.name == OFFICIAL:
        pairs = [(record.id, record.split) for record in records if record.split]
        if not pairs:
            raise BadData(f"{name!r} has no official split in {root}: leave --split out for ours")
        return _resolve(pairs, records, f"the official split of {name}")
    published = published_splits(reader)[choice.name]
    pairs = _load_pairs(choice, published, name, root, listed)
    title = f"the split {choice.name} of {name} ({published.source})"
    _check_counts(pairs, published.counts, title)
    return _resolve(pairs, records, title)


def _load_pairs(
    choice: Split, published: PublishedSplit, name: str, root: Path, listed: Sequence[str]
) -> list[tuple[str, str]]:
    """Return (id, split) from the given lists, or computed by the authors' code."""
    if choice.files:
        known = {_stem(name): name for name in listed}
        pairs = [pair for side, path in choice.files for pair in read_list(path, side)]
        return [(known.get(name, name), split) for name, split in pairs]
    if published.draw is None:
        raise Misuse(
            f"the split {choice.name!r} of {name!r} is a list of its authors ({published.source}): "
            "give it with --split-file train=FILE --split-file valid=FILE --split-file test=FILE"
        )
    try:
        return published.draw(sorted(set(listed)), root)
    except BadData:
        raise
    except ValueError as error:
        raise BadData(
            f"the split {choice.name} of {name} cannot be computed from {len(listed):,} images "
            f"({error}); leave --split out for our own split"
        ) from error


_ID_COLUMNS = (
    "id", "image_id", "imageid", "patientid", "image index", "image", "image_name", "img_path",
    "path", "filename", "fname", "new_filename",
)  # fmt: skip


def read_list(path: Path, side: str = "") -> list[tuple[str, str]]:
    """Read (id, split) of each line of a list.

    side: the split of all lines; "" reads the column `split`. The id is an image name without
    folder and extension. It is read from a column with a usual name; if there is none, from the
    first cell of the line that ends in an image extension, or else from its first cell. Cells are
    separated by commas, or by blanks if no line contains a comma.
    """
    try:
        with open_file(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the split list {path} cannot be read: {error}") from error
    rows = (
        list(csv.reader(lines)) if any("," in line for line in lines) else _split_at_blanks(lines)
    )
    rows = [row for row in rows if row]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((head.index(known) for known in _ID_COLUMNS if known in head), None)
    if not side and (column is None or "split" not in head):
        raise BadData(f"the split list {path} needs the columns id and split, found: {head}")
    body = rows if column is None else rows[1:]
    found = [
        (
            _stem(_image_cell(row) if column is None else row[column]),
            side or row[head.index("split")],
        )
        for row in body
        if len(row) > (column or 0)
    ]
    wrong = next((split for _, split in found if split not in SPLITS), None)
    if wrong is not None:
        raise BadData(f"the split list {path} names the split {wrong!r}, not {', '.join(SPLITS)}")
    return found


def _split_at_blanks(lines: Iterable[str]) -> list[list[str]]:
    return [line.split() for line in lines]


_EXTENSIONS = ("png", "jpg", "jpeg", "dcm", "dicom")


def _image_cell(row: Sequence[str]) -> str:
    """The cell of a line without header that contains the image name."""
    return next((cell for cell in row if cell.strip().lower().endswith(_EXTENSIONS)), row[0])


def _stem(cell: str) -> str:
    """Return the name of an image: `images/a.b.png` becomes `a.b`, and `a.b` stays `a.b`."""
    name = cell.strip().replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, extension = name.rpartition(".")
    return stem if dot and extension.lower() in _EXTENSIONS else name


def _check_counts(
    pairs: Sequence[tuple[str, str]], counts: tuple[int | None, ...], title: str
) -> None:
    """BadData if the number of images of a split differs from the published one."""
    found = Counter(split for _, split in pairs)
    for split, count in zip(SPLITS, counts, strict=True):
        if count is not None and found[split] != count:
            raise BadData(
                f"{title} has {count:,} {split} images, these tables or lists give "
                f"{found[split]:,}: they are an excerpt or another edition; "
                "leave --split out for our own split"
            )


def _resolve(
    pairs: Iterable[tuple[str, str]], records: Sequence[Record], title: str
) -> SplitAssignment:
    """Assign one split per image, test before valid before train, and describe the faults."""
    sides: dict[str, set[str]] = defaultdict(set)
    repeated = 0
    for name, split in pairs:
        repeated += split in sides[name]
        sides[name].add(split)
    splits = {name: max(found, key=SPLITS.index) for name, found in sides.items()}
    warnings = [
        *_leak_warnings(sides, title, "images"),
        *_leak_warnings(_by_patient(records, splits), title),
    ]
    if repeated:
        warnings.append(f"{title} names {repeated:,} images again on the side where they are")
    return SplitAssignment(splits, tuple(warnings))


def _by_patient(records: Sequence[Record], splits: Mapping[str, str]) -> SplitsByName:
    """The splits of the images of each patient."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.id in splits:
            found[record.patient].add(splits[record.id])
    return found


def _leak_warnings(sides: SplitsByName, title: str, what: str = "patients") -> list[str]:
    """Return a warning for each pair of splits that share names."""
    counts = Counter(
        pair
        for found in sides.values()
        for pair in combinations(sorted(found, key=SPLITS.index), 2)
    )
    return [
        f"{title} leaks: {one} and {other} share {count:,} {what}"
        for (one, other), count in sorted(counts.items())
    ]
