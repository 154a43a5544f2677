"""Builds the index of shards that have none: reads each once, counts its pairs, hashes its bytes.

Images are not decoded. The index is stored in `STORE/streams/` and used again while the addresses,
sizes and times of the shards do not change. A copy of it named `shards.json` beside the shards
makes it available to others.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.custom._splits import SPLIT_NAMES
from g2dbench.data.shards.columns import Columns
from g2dbench.data.shards.download_cache import download_folder, fetch_shard, file_sha256
from g2dbench.data.shards.files import open_shard
from g2dbench.data.shards.index import (
    INDEX_FILE,
    SUFFIX,
    TRAIN,
    Index,
    Kind,
    MaskBuilder,
    Shard,
    make_index,
    parse_index,
)
from g2dbench.data.shards.remote import StorageLocation, expand_braces
from g2dbench.errors import BadData
from g2dbench.system.files import replace_file
from g2dbench.system.locks import locked

if TYPE_CHECKING:
    from g2dbench.progress import Progress

Print = Callable[[str], object]

FOLDER = "streams"


def build_index(
    location: StorageLocation,
    pattern: str | None,
    options: Mapping[str, str],
    store: Path,
    progress: "Progress",
    echo: Print,
) -> Index:
    """Return the index of the shards that match `pattern`, from `store` if it was built before.

    options: column names by role, see `columns`.

    Raises:
        Misuse: the options do not fit the columns, or the location cannot be listed.
        BadData: a shard is damaged, or there is none.
    """
    kind, names = _list_shards(location, pattern)
    key_parts: list[object] = [location.address, kind, sorted(options.items())]
    key_parts += [(name, _file_version(location, name)) for name in names]
    key = hashlib.sha256(repr(key_parts).encode()).hexdigest()[:16]
    file = store / FOLDER / f"{key}.json"
    try:
        with locked(file):
            if not file.is_file():
                echo(
                    f"{location.address} has no {INDEX_FILE}: reading its {len(names)} shards once "
                    "to count their pairs"
                )
                index = _index_shards(location, kind, names, options, progress)
                text = index.to_json()
                replace_file(file, lambda path: path.write_text(text, encoding="utf-8"))
                echo(
                    f"counted {index.rows} rows; the index is stored in {file}. Others need not "
                    f"count them again if you copy it to {location.address_of(INDEX_FILE)}"
                )
            return parse_index(file.read_bytes(), str(file))
    except OSError as error:
        raise BadData(f"the index {file} cannot be written: {error}") from error


def _list_shards(location: StorageLocation, pattern: str | None) -> tuple[Kind, list[str]]:
    """Return the kind and names of the shards; BadData if there are none or two kinds."""
    names = None if pattern is None else expand_braces(pattern)
    found = location.list_files(pattern or "**") if names is None else names
    by_kind = {
        kind: [name for name in found if name.lower().endswith(suffix)]
        for kind, suffix in SUFFIX.items()
    }
    kinds = [kind for kind, shards in by_kind.items() if shards]
    where = location.address_of(pattern) if pattern else location.address
    if not kinds:
        raise BadData(
            f"{where} is missing or holds no *.parquet and no *.tar: check the address; "
            "`g2dbench data export` writes such shards"
        )
    if len(kinds) > 1:
        raise BadData(f"{where} holds Parquet files and tars: choose one, as in {where}/*.tar")
    return kinds[0], by_kind[kinds[0]]


def _file_version(location: StorageLocation, name: str) -> str:
    try:
        return location.file_version(name)
    except FileNotFoundError as error:
        raise BadData(f"there is no shard {location.address_of(name)}") from error


def _index_shards(
    location: StorageLocation,
    kind: Kind,
    names: Sequence[str],
    options: Mapping[str, str],
    progress: "Progress",
) -> Index:
    columns: Columns = {}
    shards = []
    for name in progress(names, f"counting {location.address}"):
        with download_folder() as folder:
            path = fetch_shard(location, name, Path(folder), 2**40)
            reader = open_shard(path, kind, location.address_of(name))
            columns = columns or reader.columns(options)
            masks = MaskBuilder()
            for row in reader.metadata(range(len(reader)), columns):
                masks.add(row.split or _split_of(name), row.view, row.report)
            shards.append(
                Shard(
                    name=name,
                    rows=len(reader),
                    bytes=path.stat().st_size,
                    sha256=file_sha256(path, location.address_of(name)),
                    masks=masks.encode(),
                )
            )
    return make_index(kind, _card(location), shards, columns=columns)


def _split_of(name: str) -> str:
    """Return the split that a shard's name starts with (`valid-00000.tar`), else train."""
    word = re.split(r"[-_.]", name.rpartition("/")[2])[0].lower()
    return SPLIT_NAMES.get(word, TRAIN)


def _card(location: StorageLocation) -> dict[str, object]:
    """Return the card fields of a data set that has no card; its name is that of the folder."""
    name = re.sub(r"[^\w.-]", "-", location.address.rpartition("/")[2]).strip("-._")
    return {
        "name": name or "stream",
        "summary": f"Shards in {location.address}.",
        "offers": ["reports"],
        "findings": [],
        "url": location.address,
        "licence": "that of the data set",
    }
