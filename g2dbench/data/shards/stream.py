"""A data set in shards, read as it lies: in a folder, an S3-like or an http store.

    stream:DIR                           a folder with shards.json, or of *.parquet or *.tar
    stream:s3://BUCKET/PREFIX            likewise
    stream:https://HOST/PREFIX           with shards.json, for http has no listing
    stream:ADDRESS/train-{00..12}.tar    these shards; `*` where the store can be listed

What the order of training depends on is known from the index alone, so that nothing is read before
it is needed. docs/streaming.md says what is guaranteed.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cards import DatasetCard
from g2dbench.data.shards.build_index import survey
from g2dbench.data.shards.download_cache import Checked, Shelf
from g2dbench.data.shards.index import INDEX_FILE, Index, parse_index
from g2dbench.data.shards.remote import Place, split_address
from g2dbench.data.tables.files import MAX_BYTES, read_bytes
from g2dbench.errors import BadData, Misuse

if TYPE_CHECKING:
    from g2dbench.progress import Progress

BUFFER = 2048
"""Pairs among which the next one is drawn, by default."""


@dataclass(frozen=True)
class Stream:
    """Shards and their index.

    side: the short side to which images are reduced, in pixels. warn: is told of broken images.
    """

    place: Place
    index: Index
    side: int
    buffer: int = BUFFER
    warn: Callable[[str], object] = print
    checked: Checked = field(default_factory=Checked)

    @property
    def card(self) -> DatasetCard:
        """Of the data set that was exported."""
        return self.index.dataset_card

    @property
    def size(self) -> int:
        """Short side in pixels."""
        return self.side

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides which pairs are trained on and in which order."""
        text = f"g2dbench stream 1 {self.index.digest} {self.side} {self.buffer}"
        return hashlib.sha256(text.encode()).hexdigest()

    def shelf(self) -> Shelf:
        """Where shards are fetched to."""
        return Shelf(self.place, self.checked)


def open_stream(
    address: str,
    side: int,
    store: Path,
    *,
    progress: "Progress",
    echo: Callable[[str], object],
    warn: Callable[[str], object] | None = None,
    options: Mapping[str, str] | None = None,
    buffer: int = BUFFER,
) -> Stream:
    """The data set at an address, which follows `stream:`; counted first where it has no index.

    side: the recipe's `data.size`. options: which column holds the image, the text, ..., for
    shards without an index. store: where what was counted is kept. warn: is told of broken images,
    in every process that reads them; `echo` by default.

    Raises:
        Misuse: no such store, an http store without an index, smaller images than the recipe's.
        BadData: no shards, a broken index.
    """
    place, pattern = split_address(address)
    index, origin = None if pattern else _read_index(place), "its shards.json"
    if index is None:
        origin = "what was counted"
        index = survey(place, pattern, options or {}, store, progress, echo)
    elif options:
        raise Misuse(f"--option is for shards without an index; {place.shown(INDEX_FILE)} is one")
    if index.size is not None and index.size < side:
        raise Misuse(
            f"{address} holds images of {index.size} px, the recipe wants {side} px: "
            f"--set data.size={index.size}, or export a larger store"
        )
    stream = Stream(place, index, side, buffer, warn or echo)
    echo(
        f"streaming {index.card['name']}: {len(index.shards)} shards, {index.rows} rows; "
        f"fingerprint {stream.fingerprint[:12]}, of the shards' SHA-256 in {origin}"
    )
    return stream


def _read_index(place: Place) -> Index | None:
    """The index beside the shards; None where there is none."""
    where = place.shown(INDEX_FILE)
    with tempfile.TemporaryDirectory(prefix="g2dbench-stream-") as folder:
        try:
            data = read_bytes(place.fetch(INDEX_FILE, Path(folder), MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadData(f"{where} cannot be read: {error}") from error
    return parse_index(data, where)
