"""`manifest.json` describes a prepared store. It is written last and marks a complete store."""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from g2dbench.data.images.border import KEEP
from g2dbench.data.splits.published import OURS
from g2dbench.data.store.source_files import SourceFiles
from g2dbench.errors import BadData
from g2dbench.system.bounded_files import read_json

SCHEMA = 1
MAX_BYTES = 64 << 20
ROWS_FILE, MANIFEST_FILE, QUARANTINE_FILE = "rows.arrow", "manifest.json", "quarantine.csv"


class Summary(BaseModel):
    """The counts of preparing; listed (in the tables) = stored + rejected + missing + unlisted.

    unlisted: images that the split leaves out. leaks: sentences about patients or images in two
    splits. notes: sentences about content of the tables that is not in the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int
    stored: int
    rejected: int
    missing: int
    splits: dict[str, int]
    unlisted: int = 0
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Manifest(BaseModel):
    """The description of a store; `card` as it was when preparing, `origin`: source of the images.

    reader: name of the data set whose reader was used; empty in stores of older versions. source:
    the files of the origin; None for generated data, data of a hub, and in older stores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    version: str
    reader: str = ""
    card: dict[str, Any]
    size: int
    origin: str
    split: str = OURS
    border: str = KEEP
    rows: int
    bytes: int
    fingerprint: str
    summary: Summary
    source: SourceFiles | None = None


def start_fingerprint(size: int, border: str = KEEP) -> "hashlib._Hash":
    """Start the SHA-256 of a store, to which the digest of every row is added in id order."""
    cut = "" if border == KEEP else f" border {border}"
    return hashlib.sha256(f"g2dbench store {SCHEMA} {size}{cut}".encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a store; BadData, with the way out, if it is damaged or incomplete."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise broken(folder, f"it has no {MANIFEST_FILE}, so preparing it never finished")
    try:
        raw = read_json(path, MAX_BYTES)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA:
            raise broken(folder, f"its schema version is {version!r}, this g2dbench has {SCHEMA}")
        manifest = Manifest.model_validate(raw)
    except BadData:
        raise
    except (OSError, ValueError) as error:
        raise broken(folder, f"its {MANIFEST_FILE} cannot be read: {error}") from error
    rows = folder / ROWS_FILE
    found = rows.stat().st_size if rows.is_file() else 0
    if found != manifest.bytes:
        raise broken(folder, f"{ROWS_FILE} has {found} bytes instead of {manifest.bytes}")
    return manifest


def broken(folder: Path, reason: str) -> BadData:
    """Return the error for a store that cannot be used, with the command that repairs it."""
    return BadData(
        f"the prepared data in {folder} cannot be used: {reason}; prepare it again with the same "
        f"`g2dbench data prepare` as before, which replaces it, or remove it with `g2dbench data "
        f"rm {folder.name}`"
    )
