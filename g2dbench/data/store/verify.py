"""Describes the contents of a prepared data set, and verifies that they have not changed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from g2dbench.data.images.image_file import shrunk_shape
from g2dbench.data.reports.cleaning import DEFAULT, CleaningName, count_pairs, describe_steps
from g2dbench.data.store.manifest import start_fingerprint
from g2dbench.data.store.row import digest
from g2dbench.data.store.store import Store
from g2dbench.dataset import LABEL_PREFIX
from g2dbench.errors import BadData
from g2dbench.sample import PRESENT, SPLITS

if TYPE_CHECKING:
    from g2dbench.progress import Progress


@dataclass(frozen=True)
class Verification:
    """The counts of `verify`.

    duplicates: images with the same pixels as an earlier one. leaks: pairs of ids with the same
    pixels in two splits, which inflate test scores. known: leaks that preparing reported.
    """

    images: int
    patients: int
    duplicates: int
    leaks: tuple[tuple[str, str], ...]
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{self.images} images of {self.patients} patients are as written and "
            + ("; ".join(self.known) or "no patient is in two splits")
            + f"; {self.duplicates} images repeat the pixels of another"
        )
        if self.leaks:
            pair = " and ".join(self.leaks[0])
            text += f"; {len(self.leaks)} of them across splits, such as {pair}"
        return text


def verify(store: Store, progress: "Progress") -> Verification:
    """Read and check every byte of a store, with all rows.

    Raises BadData if a row or the fingerprint has changed, or two splits share a patient.
    """
    whole = Store(store.folder)
    try:
        whole.arrow.validate(full=True)
    except pa.ArrowException as error:
        raise BadData(f"the rows of {store.folder} are damaged: {error}") from error
    found = start_fingerprint(whole.size, whole.manifest.border)
    seen: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for index in progress(range(len(whole)), f"verify {whole.card.name}", len(whole)):
        row = whole.raw(index)
        row_digest = digest(row)
        if row_digest != row["digest"]:
            raise BadData(f"image {row['id']!r} in {store.folder} is not what was written")
        found.update(row_digest)
        seen[hashlib.sha256(row["pixels"]).digest()].append((row["id"], row["split"]))
    if found.hexdigest() != whole.fingerprint:
        raise BadData(
            f"the fingerprint of {store.folder} is {found.hexdigest()[:12]} instead of "
            f"{whole.fingerprint[:12]}: rows were added, removed or exchanged"
        )
    _check_patients(whole)
    groups = list(seen.values())
    return Verification(
        images=len(whole),
        patients=int(whole.table["patient"].nunique()),
        duplicates=sum(len(group) - 1 for group in groups),
        leaks=tuple(leak for group in groups for leak in _leaks(group)),
        known=whole.manifest.summary.leaks,
    )


def _check_patients(store: Store) -> None:
    splits = store.table.groupby("patient")["split"].nunique()
    shared = splits[splits > 1].index.tolist()
    if shared and not store.manifest.summary.leaks:
        raise BadData(f"{len(shared)} patients of {store.folder} are in two splits: {shared[:3]}")


def _leaks(group: list[tuple[str, str]]) -> list[tuple[str, str]]:
    first, split = group[0]
    return [(first, other) for other, its in group[1:] if its != split]


def store_facts(store: Store, cleaning: CleaningName = DEFAULT) -> dict[str, Any]:
    """Return the counts that describe a whole store.

    Keys: name, folder, origin, split, fingerprint, size, summary, shapes, views, splits, pairs. For
    pairs see `cleaning.count_pairs`: images by what cleaning does to their report.
    """
    table = store.table
    parts = {name: table[table["split"] == name] for name in SPLITS}
    return {
        "name": store.card.name,
        "folder": str(store.folder),
        "origin": store.manifest.origin,
        "split": store.manifest.split,
        "fingerprint": store.fingerprint,
        "size": store.size,
        "summary": store.manifest.summary.model_dump(),
        "shapes": _shapes(store),
        "views": _counts(table["view"]),
        "splits": {name: _describe_split(part) for name, part in parts.items() if len(part)},
        "pairs": count_pairs(zip(table["view"], table["report"], strict=True), cleaning),
    }


def describe(store: Store, cleaning: CleaningName = DEFAULT) -> str:
    """Return `store_facts` as text for `g2dbench data show`."""
    known = store_facts(store, cleaning)
    lines = [
        store.summary,
        f"origin: {known['origin']}",
        f"split: {known['split']}",
        f"height x width: {_format_counts(known['shapes'])}",
        f"views: {_format_counts(known['views'])}",
        f"image-report pairs, cleaning {cleaning}: {describe_steps(known['pairs'])}",
    ]
    for name, part in known["splits"].items():
        counts = {key: value for key, value in part.items() if key != "positive"}
        lines += [
            f"{name}: {_format_counts(counts)}",
            f"  positive: {_format_counts(part['positive'])}",
        ]
    return "\n".join(lines)


def _format_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _describe_split(part: pd.DataFrame) -> dict[str, Any]:
    findings = [name for name in part.columns if name.startswith(LABEL_PREFIX)]
    return {
        "images": len(part),
        "patients": int(part["patient"].nunique()),
        "reports": int(part["report"].notna().sum()),
        "boxes": int(part["has_boxes"].sum()),
        "masks": int(part["has_masks"].sum()),
        "positive": {
            name.removeprefix(LABEL_PREFIX): int((part[name] == PRESENT).sum())
            for name in findings
            if part[name].notna().any()
        },
    }


def _shapes(store: Store) -> dict[str, int]:
    """Count the images by height x width; the ten most frequent sizes."""
    pairs = zip(*(store.arrow[name].to_pylist() for name in ("height", "width")), strict=True)
    shapes = (shrunk_shape(height, width, store.size) for height, width in pairs)
    return dict(Counter(f"{height}x{width}" for height, width in shapes).most_common(10))


def _counts(values: "pd.Series[Any]") -> dict[str, int]:
    return {str(name): int(count) for name, count in values.fillna("none").value_counts().items()}
