"""Any data set that `datasets` of Hugging Face opens: a folder, a hub id, or WebDataset shards.

    ROOT                     content
    a saved data set         `save_to_disk`, one split or several
    folder of *.tar          WebDataset shards (jpg or png, txt, ...)
    folder of *.parquet      Parquet shards
    any other folder         `imagefolder`: classes as folders, or metadata.csv / .jsonl
    OWNER/NAME               a data set of the hub, or of its cache if there is no network

Features are found by type: the image by Image; labels by ClassLabel or a list of ClassLabel; boxes
by an object with `bbox` (x, y, width, height) and `category`. The features `height` and `width`, if
present, are the size of the picture to which boxes refer. Texts are found by the names in `_table`.
The keys of a WebDataset's `json` are features too. `_splits` describes the splits. No code of the
data set is executed: `datasets` runs no scripts since version 4. The reader needs the extra `hf`:
pip install "g2dbench[hf]".
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from g2dbench.cards import DatasetCard
from g2dbench.data.custom._hf_features import ROLES, FeatureRoles
from g2dbench.data.custom._splits import SPLIT_NAMES, UserSplits
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

INSTALL_COMMAND = 'pip install "g2dbench[hf]"'


def describe(root: Path, options: Mapping[str, str]) -> DatasetCard:
    """Return the card of a data set; Misuse if an option is needed, BadData if unreadable."""
    parts = _open(str(root), options.get("config"), _folder_digest(root))
    roles = FeatureRoles.of(_with_json_fields(next(iter(parts.values())).features), options)
    return DatasetCard(
        name=CARD.name,
        summary=f"{root.name or root} by way of `datasets` ({roles.describe()}).",
        offers=roles.offers(),
        findings=roles.findings,
        url=CARD.url,
        licence=CARD.licence,
    )


def read(root: Path, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield one record per row in the order of the data set; ids are `__key__`, or split/row."""
    config = options.get("config")
    stamp = _folder_digest(root)
    parts = _open(str(root), config, stamp)
    splits = UserSplits(parts)
    features = _with_json_fields(next(iter(parts.values())).features)
    if others := FeatureRoles.of(features, options).unused(features):
        yield Note(f"features that are not used: {shortened(others)}")
    for split, part in parts.items():
        roles = FeatureRoles.of(_with_json_fields(part.features), options)
        for index, row in enumerate(_rows_without_images(part, roles.image)):
            name = str(row.get("__key__") or f"{split}/{index:09d}")
            cell = ImageCell(
                str(root), config, split, roles.image, index, stamp or part._fingerprint
            )
            try:
                yield _record(name, cell, row, roles, splits)
            except BadData as error:
                yield Rejected(name, None, f"row {index} of {split}: {error}")


def _rows_without_images(part: Any, image: str) -> Iterator[Mapping[str, Any]]:
    """Return the rows of a split without their images."""
    rest = part.remove_columns([image])
    # A data set without columns has no rows.
    return map(_with_json_fields, rest) if rest.column_names else ({} for _ in range(len(part)))


def _with_json_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the keys of the `json` of a WebDataset sample to its features or to a row."""
    inner = fields.get("json")
    return {**inner, **fields} if isinstance(inner, dict) else fields


def _record(
    name: str, cell: "ImageCell", row: Mapping[str, Any], roles: FeatureRoles, splits: UserSplits
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
class ImageCell:
    """The address of one image in a data set; it can be pickled and read in another process.

    stamp: digest of the files that contain the image, so that a resumed preparation reads changed
    images again.
    """

    root: str
    config: str | None
    split: str
    column: str
    index: int
    stamp: str

    def read(self) -> bytes:
        """Read the bytes of the image; BadData if it is missing or lies outside the data set."""
        where = f"row {self.index} of {self.split} in {self.root}"
        folder = self.stamp if Path(self.root).is_dir() else ""
        found = _open(self.root, self.config, folder)[self.split][self.index][self.column] or {}
        if found.get("bytes") is not None:
            return bytes(found["bytes"])
        path = Path(found.get("path") or "")
        if not path.is_file():
            raise BadData(f"{where} holds no image, only the path {str(path)!r}")
        if not is_within(path, _allowed_folders(Path(self.root))):
            raise BadData(f"{where} names the file {path}, which lies outside the data set")
        return path.read_bytes()


def _allowed_folders(root: Path) -> list[Path]:
    """Return the folders in which the files of a data set may lie: its own, or the hub's cache."""
    if root.is_dir():
        return trusted_roots(root)
    from datasets import config

    return [Path(config.HF_CACHE_HOME).resolve()]


def _folder_digest(root: Path) -> str:
    """Return a digest of the names, sizes and times of all files; "" for a data set of the hub."""
    if not root.is_dir():
        return ""
    found = hashlib.sha256()
    for path in sorted(files_below(root)):
        status = path.stat() if path.exists() else path.lstat()
        line = f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n"
        found.update(line.encode(errors="surrogateescape"))
    return found.hexdigest()


@lru_cache(maxsize=4)
def _open(root: str, config: str | None, stamp: str) -> dict[str, Any]:
    """Open the splits of a data set; images are not decoded but given as bytes or a path.

    stamp: digest of the folder, a part of the cache key, so that changed files are opened again.
    """
    try:
        import datasets
    except ImportError as error:
        raise Misuse(
            f"reading Hugging Face data sets needs `datasets`: {INSTALL_COMMAND}"
        ) from error
    try:
        found = _load(datasets, Path(root), config)
        parts = found if isinstance(found, dict) else {str(found.split or "all"): found}
        undecoded = {split: _without_decoding(datasets, part) for split, part in parts.items()}
    except Exception as error:  # `datasets` raises many types on malformed files
        raise BadData(f"{_open_error(Path(root))}: {type(error).__name__}: {error}") from error
    if not undecoded:
        raise BadData(f"the data set {root} has no split")
    return undecoded


def _load(datasets: Any, root: Path, config: str | None) -> Any:
    """Load a root with the builder that fits its content."""
    if not root.is_dir():
        return datasets.load_dataset(str(root), config)
    if (root / "dataset_dict.json").is_file() or (root / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(root))
    for kind, pattern in (("webdataset", "**/*.tar"), ("parquet", "**/*.parquet")):
        if files := sorted(str(path) for path in root.glob(pattern)):
            return datasets.load_dataset(kind, data_files=_by_split(files))
    return datasets.load_dataset("imagefolder", data_dir=str(root))


def _by_split(files: list[str]) -> dict[str, list[str]]:
    """Group shards by the split in the prefix of their names (`train-00000.tar`), else train."""
    parts: dict[str, list[str]] = {}
    for file in files:
        prefix = Path(file).name.replace("_", "-").replace(".", "-").split("-")[0].lower()
        parts.setdefault(SPLIT_NAMES.get(prefix, "train"), []).append(file)
    return parts


def _without_decoding(datasets: Any, part: Any) -> Any:
    """Keep images as bytes, so that `images.image_file` decodes and checks them."""
    for name, feature in part.features.items():
        if isinstance(feature, datasets.Image):
            part = part.cast_column(name, datasets.Image(decode=False))
    return part


def _open_error(root: Path) -> str:
    """The sentence for a root that `datasets` cannot open."""
    if root.is_dir():
        return f"`datasets` cannot read the folder {root}"
    return (
        f"there is no folder {root}, and the data set of that name cannot be loaded from the hub; "
        "without a network only data sets in the cache can be read"
    )
