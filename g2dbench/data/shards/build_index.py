"""An index for shards that have none: each is read once, its pairs counted, its bytes hashed.

Images are not decoded. What was found is kept in `STORE/streams/`, under the addresses, sizes and
times that the store tells, so that it is not counted again; put beside the shards as `shards.json`
it is an index like any other.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.data.custom._splits import SPLIT_NAMES
from g2dbench.data.shards.columns import Columns
from g2dbench.data.shards.download_cache import fetched, sha256
from g2dbench.data.shards.files import open_shard
from g2dbench.data.shards.index import (
    INDEX_FILE,
    SUFFIX,
    TRAIN,
    Index,
    Kind,
    Marks,
    Shard,
    make_index,
    parse_index,
)
from g2dbench.data.shards.remote import Place, expand
from g2dbench.errors import BadData
from g2dbench.system.files import locked, replace_file

if TYPE_CHECKING:
    from g2dbench.progress import Progress

Echo = Callable[[str], object]

FOLDER = "streams"


def survey(
    place: Place,
    pattern: str | None,
    options: Mapping[str, str],
    store: Path,
    progress: "Progress",
    echo: Echo,
) -> Index:
    """The index of shards that match, made now or found in the store.

    options: columns by role, see `shard_columns`. Misuse where they do not fit or nothing can be
    listed; BadData for broken shards, or none.
    """
    kind, names = _shards(place, pattern)
    told: list[object] = [place.address, kind, sorted(options.items())]
    told += [(name, _tag(place, name)) for name in names]
    key = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    file = store / FOLDER / f"{key}.json"
    try:
        with locked(file):
            if not file.is_file():
                echo(
                    f"{place.address} has no {INDEX_FILE}: reading its {len(names)} shards once, "
                    "to count their pairs"
                )
                index = _count(place, kind, names, options, progress)
                text = index.text()
                replace_file(file, lambda path: path.write_text(text, encoding="utf-8"))
                echo(
                    f"counted {index.rows} rows; kept in {file}. As {place.shown(INDEX_FILE)} it "
                    "would spare others the counting"
                )
            return parse_index(file.read_bytes(), str(file))
    except OSError as error:
        raise BadData(f"the index {file} cannot be written: {error}") from error


def _shards(place: Place, pattern: str | None) -> tuple[Kind, list[str]]:
    """The shards' kind and names; BadData where there are none or two kinds."""
    names = None if pattern is None else expand(pattern)
    found = place.names(pattern or "**") if names is None else names
    by_kind = {
        kind: [name for name in found if name.lower().endswith(suffix)]
        for kind, suffix in SUFFIX.items()
    }
    kinds = [kind for kind, shards in by_kind.items() if shards]
    where = place.shown(pattern) if pattern else place.address
    if not kinds:
        raise BadData(
            f"{where} is missing or holds no *.parquet and no *.tar: check the address; "
            "`g2dbench data export` writes such shards"
        )
    if len(kinds) > 1:
        raise BadData(f"{where} holds Parquet files and tars: say which, as in {where}/*.tar")
    return kinds[0], by_kind[kinds[0]]


def _tag(place: Place, name: str) -> str:
    try:
        return place.tag(name)
    except FileNotFoundError as error:
        raise BadData(f"there is no shard {place.shown(name)}") from error


def _count(
    place: Place, kind: Kind, names: Sequence[str], options: Mapping[str, str], progress: "Progress"
) -> Index:
    columns: Columns = {}
    shards = []
    for name in progress(names, f"counting {place.address}"):
        with tempfile.TemporaryDirectory(prefix="g2dbench-stream-") as folder:
            path = fetched(place, name, Path(folder), 2**40)
            rows = open_shard(path, kind, place.shown(name))
            columns = columns or rows.columns(options)
            marks = Marks()
            for row in rows.told(range(len(rows)), columns):
                marks.add(row.split or _split_of(name), row.view, row.report)
            shards.append(
                Shard(
                    name=name,
                    rows=len(rows),
                    bytes=path.stat().st_size,
                    sha256=sha256(path, place.shown(name)),
                    masks=marks.masks(),
                )
            )
    return make_index(kind, _card(place), shards, columns=columns)


def _split_of(name: str) -> str:
    """The split that a shard's name begins with, such as `valid-00000.tar`; else train."""
    word = re.split(r"[-_.]", name.rpartition("/")[2])[0].lower()
    return SPLIT_NAMES.get(word, TRAIN)


def _card(place: Place) -> dict[str, object]:
    """What can be said of a stranger's data set; its name is that of the folder."""
    name = re.sub(r"[^\w.-]", "-", place.address.rpartition("/")[2]).strip("-._")
    return {
        "name": name or "stream",
        "summary": f"Shards in {place.address}.",
        "offers": ["reports"],
        "findings": [],
        "url": place.address,
        "licence": "that of the data set",
    }
