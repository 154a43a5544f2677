"""A data set in shards, streamed from a folder, an S3-compatible or an http store.

    stream:DIR                           a folder with shards.json, or with *.parquet or *.tar
    stream:s3://BUCKET/PREFIX            likewise
    stream:https://HOST/PREFIX           needs shards.json, because http has no listing
    stream:ADDRESS/train-{00..12}.tar    these shards; also `*` if the store can list its files

The index alone determines the order of training, so that a shard is read only when it is needed.
docs/streaming.md states what is guaranteed.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from g2dbench.cards import DatasetCard
from g2dbench.data.shards.build_index import build_index
from g2dbench.data.shards.download_cache import DownloadCache, VerifiedShards, download_folder
from g2dbench.data.shards.index import INDEX_FILE, Index, parse_index
from g2dbench.data.shards.remote import StorageLocation, split_address
from g2dbench.data.tables.files import MAX_BYTES, read_bytes
from g2dbench.errors import BadData, Misuse

if TYPE_CHECKING:
    from g2dbench.progress import Progress

DEFAULT_BUFFER = 2048
"""Default size of the shuffle buffer, in pairs."""


@dataclass(frozen=True)
class Stream:
    """Shards and their index.

    side: the short side to which images are reduced, in pixels. buffer: size of the shuffle buffer
    in pairs. warn: is called with a sentence for each damaged image. verified: see
    `DownloadCache`.
    """

    location: StorageLocation
    index: Index
    side: int
    buffer: int = DEFAULT_BUFFER
    warn: Callable[[str], object] = print
    verified: VerifiedShards = field(default_factory=VerifiedShards)

    @property
    def card(self) -> DatasetCard:
        """The card of the data set that was exported."""
        return self.index.dataset_card

    @property
    def size(self) -> int:
        """The short side of the images in pixels."""
        return self.side

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the training pairs and their order."""
        text = f"g2dbench stream 1 {self.index.digest} {self.side} {self.buffer}"
        return hashlib.sha256(text.encode()).hexdigest()

    def download_cache(self) -> DownloadCache:
        """Return a new cache for the shards; use it as a context manager."""
        return DownloadCache(self.location, self.verified)


def open_stream(
    address: str,
    side: int,
    store: Path,
    *,
    progress: "Progress",
    echo: Callable[[str], object],
    warn: Callable[[str], object] | None = None,
    options: Mapping[str, str] | None = None,
    buffer: int = DEFAULT_BUFFER,
) -> Stream:
    """Open the data set at an address (without `stream:`); builds the index if there is none.

    side: the recipe's `data.size`. options: the columns of the image, the text, ..., for shards
    without an index. store: the folder in which a new index is stored. warn: is called with a
    sentence for each damaged image, in every process that reads it; `echo` by default.

    Raises:
        Misuse: unknown kind of store, http store without an index, or images smaller than `side`.
        BadData: no shards, or a damaged index.
    """
    location, pattern = split_address(address)
    index, origin = None if pattern else _read_index(location), "its shards.json"
    if index is None:
        origin = "the index that was built"
        index = build_index(location, pattern, options or {}, store, progress, echo)
    elif options:
        raise Misuse(
            f"--option is for shards without an index; {location.address_of(INDEX_FILE)} is one"
        )
    if index.size is not None and index.size < side:
        raise Misuse(
            f"{address} holds images of {index.size} px, the recipe wants {side} px: "
            f"--set data.size={index.size}, or export a larger store"
        )
    stream = Stream(location, index, side, buffer, warn or echo)
    echo(
        f"streaming {index.card['name']}: {len(index.shards)} shards, {index.rows} rows; "
        f"fingerprint {stream.fingerprint[:12]}, of the shards' SHA-256 in {origin}"
    )
    return stream


def _read_index(location: StorageLocation) -> Index | None:
    """Return the index beside the shards, or None if there is none."""
    where = location.address_of(INDEX_FILE)
    with download_folder() as folder:
        try:
            data = read_bytes(location.fetch(INDEX_FILE, Path(folder), MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadData(f"{where} cannot be read: {error}") from error
    return parse_index(data, where)
