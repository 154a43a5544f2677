"""Shards within reach: on this machine, checked, the next one on its way, done ones dropped.

A shard of a folder stays where it is. Others are copied into a temporary folder, which goes with
the process: those that are being read and one more. What was fetched is compared with the index,
size and SHA-256; a local file is hashed once, and again only if its size or time changed.
"""

import hashlib
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType

from g2dbench.data.shards.index import Shard
from g2dbench.data.shards.remote import Place
from g2dbench.errors import BadData

Version = tuple[int, int]


@dataclass
class Checked:
    """Local shards that were hashed, by name; lives as long as the data set."""

    versions: dict[str, Version] = field(default_factory=dict)


class Shelf(AbstractContextManager["Shelf"]):
    """Gives local files with the contents of shards; everything of it goes with `close`."""

    def __init__(self, place: Place, checked: Checked | None = None) -> None:
        self._place, self._checked = place, checked or Checked()
        self._folder = tempfile.TemporaryDirectory(prefix="g2dbench-stream-")
        self._thread, self._ended = ThreadPoolExecutor(1), Event()
        self._coming: dict[str, Future[Path]] = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()

    def get(self, shard: Shard, then: Shard | None = None) -> Path:
        """This shard; `then`, which will be asked for next, begins to be fetched.

        Raises BadData where it is gone, broken, or not the one of the index.
        """
        coming = self._ask(shard)
        path = coming.result()
        if then is not None and not self._place.is_local:
            self._ask(then)
        return path

    def drop(self, shard: Shard) -> None:
        """Remove the copy of a shard that is not needed any more."""
        coming = self._coming.pop(shard.name, None)
        if coming is not None and not self._place.is_local:
            coming.result().unlink(missing_ok=True)

    def _ask(self, shard: Shard) -> "Future[Path]":
        if shard.name not in self._coming:
            self._coming[shard.name] = self._thread.submit(self._fetch, shard)
        return self._coming[shard.name]

    def _fetch(self, shard: Shard) -> Path:
        where = self._place.shown(shard.name)
        path = fetched(self._place, shard.name, Path(self._folder.name), shard.bytes, self._ended)
        found = path.stat()
        version = (found.st_size, found.st_mtime_ns)
        if self._place.is_local and self._checked.versions.get(shard.name) == version:
            return path
        if found.st_size != shard.bytes:
            raise BadData(
                f"the shard {where} has {found.st_size:,} bytes instead of {shard.bytes:,}: "
                "it is truncated, or another one than its index was made for"
            )
        digest = sha256(path, where)
        if digest != shard.sha256:
            raise BadData(
                f"the shard {where} has changed since its index was made: its SHA-256 is "
                f"{digest[:12]} instead of {shard.sha256[:12]}; put the old one back, or export "
                "or count the data set anew"
            )
        self._checked.versions[shard.name] = version
        return path


def fetched(place: Place, name: str, folder: Path, most: int, ended: Event | None = None) -> Path:
    """A shard as a regular local file; BadData where it is gone or cannot be had."""
    where = place.shown(name)
    try:
        path = place.fetch(name, folder, most, ended)
    except FileNotFoundError as error:
        raise BadData(
            f"the shard {where} is gone: its index lists it, the store lacks it"
        ) from error
    if not path.is_file():
        raise BadData(f"the shard {where} is gone, or is no regular file")
    return path


def sha256(path: Path, where: str) -> str:
    """Of a file's bytes, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadData(f"the shard {where} cannot be read: {error.strerror}") from error
