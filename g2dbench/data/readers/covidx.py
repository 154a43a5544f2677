"""COVIDx, lists of the releases 5 to 9B and CXR-2 to CXR-4: COVID-19 in three or two classes.

    {train,test,val}.txt, or {train,test}_COVIDx9A.txt     `patient filename class source`
    train/<filename>, test/<filename>, val/<filename>      val/ from CXR-3 on

Fields of a line are separated by spaces, without header; in older lists some lines have no source.
The classes are normal, pneumonia and COVID-19, or positive and negative, which label only COVID-19.
File names contain dots; an id is the whole file name. If a release has no validation list, a fifth
of its training list is held out, by patient; MGCA uses the same share.
9A has 30,130 training and 400 test images, 9B 30,482 and 400, CXR-4 67,863 / 8,473 / 8,482.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.splits.published import PublishedSplit, in_splits
from g2dbench.data.tables.csv import read_lines
from g2dbench.data.tables.files import check_layout, folders, is_present
from g2dbench.data.tables.paths import locate, portable
from g2dbench.data.tables.records import Found, Missing, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record

CARD = DatasetCard(
    name="covidx",
    summary="COVIDx: COVID-19, other pneumonia and normal chest radiographs from many sources.",
    offers=("labels",),
    findings=("Normal", "Pneumonia", "COVID-19"),
    url="https://github.com/lindawangg/COVID-Net/blob/master/docs/COVIDx.md",
    licence="Terms of each source; research only",
    layout=("train.txt (or train_COVIDx9A.txt)", "test.txt", "train/", "test/"),
    exclusive=True,
    options=("lists",),
)


def _mgca_split(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """A fifth of the training lines for validation, by image: patients are on both sides."""
    from sklearn.model_selection import train_test_split

    lists = listed_images(root, ids)
    train, valid = train_test_split(lists["train"], train_size=0.8, random_state=0)
    return in_splits((train, valid, lists["test"]))


def _benchx_split(ids: Sequence[str], root: Path) -> list[tuple[str, str]]:
    """The official lists of a release that has three."""
    return [(item, split) for split, part in listed_images(root, ids).items() for item in part]


PUBLISHED_SPLITS = {
    "mgca": PublishedSplit("MGCA, mgca/preprocess/covidx.py", (None, None, 400), _mgca_split),
    "benchx": PublishedSplit("BenchX: the lists of CXR-4", (67_863, 8_473, 8_482), _benchx_split),
}

SPLIT = (0.8, 0.2, 0.0)
"""Shares of the training list if there is no validation list; the test list is official."""

CLASSES: dict[str, dict[str, int]] = {
    "normal": {"Normal": 1, "Pneumonia": 0, "COVID-19": 0},
    "pneumonia": {"Normal": 0, "Pneumonia": 1, "COVID-19": 0},
    "COVID-19": {"Normal": 0, "Pneumonia": 0, "COVID-19": 1},
    "negative": {"COVID-19": 0},
    "positive": {"COVID-19": 1},
}

PARTS = {"train": "train", "val": "valid", "test": "test"}


def read(root: Path, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield a record for each line of the lists of a release.

    options: `lists` names the release, such as COVIDx9A, where the folder holds lists of several.
    Misuse if it is needed and missing; BadData if the lists or the image folders are missing.
    """
    check_layout(root)
    lists = _lists(root, options.get("lists"))
    folders(root, tuple(lists))
    for part, path in lists.items():
        official = "test" if part == "test" else PARTS[part] if "val" in lists else None
        for number, line in read_lines(path):
            yield _found(line, f"line {number} of {path.name}", root / part, official)


def listed_images(root: Path, ids: Collection[str]) -> dict[str, list[str]]:
    """Image names by split, in the lists' order, of the release that these ids come from.

    If the folder holds lists of several releases, it is the one that best matches these ids.
    """
    wanted = set(ids)
    releases = [
        {PARTS[part]: list(_names(path)) for part, path in lists.items()}
        for lists in _releases(root).values()
    ]
    return min(releases, key=lambda found: len(wanted ^ set().union(*found.values())))


def _names(path: Path) -> Iterator[str]:
    for number, line in read_lines(path):
        try:
            yield _parse(line, f"line {number} of {path.name}")[1]
        except BadData:  # `read` tells
            continue


def _found(line: str, where: str, folder: Path, split: str | None) -> Found:
    try:
        patient, name, label = _parse(line, where)
    except BadData as error:
        return Rejected(where, None, str(error))
    path = locate(folder, name)
    if not is_present(path):
        return Missing(name, path)
    return Record(id=name, path=path, patient=patient, split=split, labels=CLASSES[label])


def _parse(line: str, where: str) -> tuple[str, str, str]:
    """Patient, file name and class; the class is the last word, or the one before a source."""
    words = line.split()
    last = next((at for at in (-1, -2) if len(words) >= 2 - at and words[at] in CLASSES), None)
    if last is None:
        raise BadData(f"{where}: {line[:80]!r} is no `patient filename class [source]`")
    # Patient names may contain a space (8A: `COVID 1 COVID(1).png COVID-19 sirm`), file names none.
    return " ".join(words[: last - 1]), portable(words[last - 1]), words[last]


def _lists(root: Path, wanted: str | None) -> dict[str, Path]:
    """The lists of one release by part: train, val, test."""
    editions = _releases(root)
    if wanted is None and len(editions) == 1:
        return next(iter(editions.values()))
    if wanted is None and "" in editions:
        return editions[""]
    if wanted not in editions:
        names = ", ".join(name or "(plain)" for name in sorted(editions))
        raise Misuse(f"{root} holds the lists of {names}: choose with --option lists=NAME")
    return editions[wanted]


def _releases(root: Path) -> dict[str, dict[str, Path]]:
    """The lists of every release, by its name and by part."""
    found: dict[str, dict[str, Path]] = {}
    for part in PARTS:
        for path in sorted(root.glob(f"{part}*.txt")):
            edition = path.stem.removeprefix(part).lstrip("_")
            found.setdefault(edition, {})[part] = path
    editions = {name: lists for name, lists in found.items() if {"train", "test"} <= lists.keys()}
    if not editions:
        raise BadData(
            f"{root} holds no lists train.txt and test.txt, nor any with a release's name"
        )
    return editions
