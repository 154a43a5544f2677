"""Any data set that Hugging Face's `datasets` opens: a folder, a hub id, or WebDataset shards.

    ROOT                     what is read
    a saved data set         `save_to_disk`, one split or several
    folder of *.tar          WebDataset shards (jpg or png, txt, ...)
    folder of *.parquet      Parquet shards
    any other folder         `imagefolder`: classes as folders, or metadata.csv / .jsonl
    OWNER/NAME               a data set of the hub, or of its cache where there is no network

Features are found by type: the image by Image, labels by ClassLabel or a list of it, boxes by an
object with `bbox` (x, y, width, height) and `category`, in the picture whose size the features
`height` and `width` may tell, the text by the names in `_table`; the
keys of a WebDataset's `json` are features too. For splits see `own_splits`. Nothing of the data set
is executed: `datasets` runs no scripts since its version 4. Needs the extra: pip install
"g2dbench[hf]".
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from g2dbench.cards import DatasetCard
from g2dbench.data.custom._hf_features import ROLES, Roles
from g2dbench.data.custom._splits import NAMES, OwnSplits
from g2dbench.data.tables.columns import shortened
from g2dbench.data.tables.demographics import parse_years
from g2dbench.data.tables.files import files_below, is_within, trusted_roots
from g2dbench.data.tables.records import Found, Note, Rejected
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Record

CARD = DatasetCard(
    name="hf",
    summary="Any Hugging Face data set: a folder, a hub id, or WebDataset shards.",
    offers=("reports", "labels", "boxes"),
    findings=(),
    url="https://huggingface.co/datasets",
    licence="that of the data set",
    layout=("a `datasets` folder, *.tar or *.parquet shards; or --root OWNER/NAME",),
    options=(
        "config", "image", "label", "objects", "text", "patient", "study", "view", "sex", "age",
    ),
    generic=True,
)  # fmt: skip

assert set(ROLES) < set(CARD.options)

PIP_LINE = 'pip install "g2dbench[hf]"'


def describe(root: Path, options: Mapping[str, str]) -> DatasetCard:
    """The card of a data set; Misuse if a feature must be named, BadData if it cannot be opened."""
    parts = _open(str(root), options.get("config"), _stamp(root))
    roles = Roles.of(_beside_json(next(iter(parts.values())).features), options)
    return DatasetCard(
        name=CARD.name,
        summary=f"{root.name or root} by way of `datasets` ({roles.told()}).",
        offers=roles.offers(),
        findings=roles.findings,
        url=CARD.url,
        licence=CARD.licence,
    )


def read(root: Path, options: Mapping[str, str]) -> Iterator[Found]:
    """One record per row, in the order of the data set; ids are `__key__`, or split and row."""
    config = options.get("config")
    stamp = _stamp(root)
    parts = _open(str(root), config, stamp)
    splits = OwnSplits(parts)
    features = _beside_json(next(iter(parts.values())).features)
    if others := Roles.of(features, options).unused(features):
        yield Note(f"features that are not used: {shortened(others)}")
    for split, part in parts.items():
        roles = Roles.of(_beside_json(part.features), options)
        for index, row in enumerate(_told(part, roles.image)):
            name = str(row.get("__key__") or f"{split}/{index:09d}")
            cell = Cell(str(root), config, split, roles.image, index, stamp or part._fingerprint)
            try:
                yield _record(name, cell, row, roles, splits)
            except BadData as error:
                yield Rejected(name, None, f"row {index} of {split}: {error}")


def _told(part: Any, image: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a split without their images."""
    rest = part.remove_columns([image])
    # A data set without columns has no rows.
    return map(_beside_json, rest) if rest.column_names else ({} for _ in range(len(part)))


def _beside_json(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Features or a row with the keys of its `json`, which a WebDataset's sample may have."""
    inner = fields.get("json")
    return {**inner, **fields} if isinstance(inner, dict) else fields


def _record(
    name: str, cell: "Cell", row: Mapping[str, Any], roles: Roles, splits: OwnSplits
) -> Record:
    patient = roles.text_of(row, "patient") or name
    boxes, notes = roles.boxes_of(row)
    return Record(
        id=name,
        path=Path(cell.root) / cell.split / str(cell.index),
        data=cell,
        patient=patient,
        study=roles.text_of(row, "study"),
        view=roles.text_of(row, "view"),
        sex=roles.text_of(row, "sex"),
        age=parse_years(roles.text_of(row, "age")),
        split=splits.of(cell.split, patient),
        report=roles.text_of(row, "text"),
        labels=roles.labels_of(row),
        boxes=boxes,
        frame=roles.frame_of(row),
        notes=notes,
    )


@dataclass(frozen=True)
class Cell:
    """One image of a data set; it pickles as its address, so that any process can read it.

    stamp: of the files it lies in, so that a preparation that goes on reads again what changed.
    """

    root: str
    config: str | None
    split: str
    column: str
    index: int
    stamp: str

    def read(self) -> bytes:
        """The file's bytes; BadData if there are none, or if they lie outside the data set."""
        where = f"row {self.index} of {self.split} in {self.root}"
        folder = self.stamp if Path(self.root).is_dir() else ""
        found = _open(self.root, self.config, folder)[self.split][self.index][self.column] or {}
        if found.get("bytes") is not None:
            return bytes(found["bytes"])
        path = Path(found.get("path") or "")
        if not path.is_file():
            raise BadData(f"{where} holds no image, only the path {str(path)!r}")
        if not is_within(path, _trusted(Path(self.root))):
            raise BadData(f"{where} names the file {path}, which lies outside the data set")
        return path.read_bytes()


def _trusted(root: Path) -> list[Path]:
    """Folders whose files a data set may name: its own, or the hub's cache."""
    if root.is_dir():
        return trusted_roots(root)
    from datasets import config

    return [Path(config.HF_CACHE_HOME).resolve()]


def _stamp(root: Path) -> str:
    """What changes with any file of a folder: their names, sizes and times; "" for the hub's."""
    if not root.is_dir():
        return ""
    found = hashlib.sha256()
    for path in sorted(files_below(root)):
        told = path.stat() if path.exists() else path.lstat()
        line = f"{path.relative_to(root)} {told.st_size} {told.st_mtime_ns}\n"
        found.update(line.encode(errors="surrogateescape"))
    return found.hexdigest()


@lru_cache(maxsize=4)
def _open(root: str, config: str | None, stamp: str) -> dict[str, Any]:
    """The splits of a data set, images not decoded; a split's images are bytes or a path.

    stamp: of its folder, so that changed files are opened anew.
    """
    try:
        import datasets
    except ImportError as error:
        raise Misuse(f"reading Hugging Face data sets needs `datasets`: {PIP_LINE}") from error
    try:
        found = _load(datasets, Path(root), config)
        parts = found if isinstance(found, dict) else {str(found.split or "all"): found}
        plain = {split: _undecoded(datasets, part) for split, part in parts.items()}
    except Exception as error:  # whatever `datasets` raises on files that it does not understand
        raise BadData(f"{_hint(Path(root))}: {type(error).__name__}: {error}") from error
    if not plain:
        raise BadData(f"the data set {root} has no split")
    return plain


def _load(datasets: Any, root: Path, config: str | None) -> Any:
    if not root.is_dir():
        return datasets.load_dataset(str(root), config)
    if (root / "dataset_dict.json").is_file() or (root / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(root))
    for kind, pattern in (("webdataset", "**/*.tar"), ("parquet", "**/*.parquet")):
        if files := sorted(str(path) for path in root.glob(pattern)):
            return datasets.load_dataset(kind, data_files=_by_split(files))
    return datasets.load_dataset("imagefolder", data_dir=str(root))


def _by_split(files: list[str]) -> dict[str, list[str]]:
    """Shards by the split that their names begin with, such as `train-00000.tar`; else train."""
    parts: dict[str, list[str]] = {}
    for file in files:
        word = Path(file).name.replace("_", "-").replace(".", "-").split("-")[0].lower()
        parts.setdefault(NAMES.get(word, "train"), []).append(file)
    return parts


def _undecoded(datasets: Any, part: Any) -> Any:
    """Keep images as their files' bytes: they are decoded by `image`, with its checks."""
    for name, feature in part.features.items():
        if isinstance(feature, datasets.Image):
            part = part.cast_column(name, datasets.Image(decode=False))
    return part


def _hint(root: Path) -> str:
    if root.is_dir():
        return f"`datasets` cannot read the folder {root}"
    return (
        f"there is no folder {root}, and the hub's data set of that name cannot be had; without "
        "a network only what the cache holds can"
    )
