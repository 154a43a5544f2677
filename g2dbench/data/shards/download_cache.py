"""A cache of downloaded shards, which downloads the next shard while the current one is read.

Shards in a local folder are read in place. Remote shards are downloaded to a temporary folder,
which is deleted at the end of the process; it holds the shards in use and the next one. The size
and SHA-256 of each shard are compared with the index. A local file is hashed once, and again only
if its size or modification time changes.
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
from g2dbench.data.shards.remote import StorageLocation
from g2dbench.errors import BadData
from g2dbench.system.temporaries import owner, remove_dead

Version = tuple[int, int]


@dataclass
class VerifiedShards:
    """Size and modification time of the local shards whose hash was checked, by name."""

    versions: dict[str, Version] = field(default_factory=dict)


def download_folder() -> "tempfile.TemporaryDirectory[str]":
    """A new temporary folder for shards; those of killed processes are removed."""
    remove_dead(Path(tempfile.gettempdir()), _PREFIX)
    return tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{owner()}-")


_PREFIX = "g2dbench-stream-"


class DownloadCache(AbstractContextManager["DownloadCache"]):
    """Provides shards as local files; a context manager, whose end deletes all downloads.

    location: where the shards are. verified: local shards that need no further hashing.
    """

    def __init__(self, location: StorageLocation, verified: VerifiedShards | None = None) -> None:
        self._location, self._verified = location, verified or VerifiedShards()
        self._folder = download_folder()
        self._thread, self._closed = ThreadPoolExecutor(1), Event()
        self._downloads: dict[str, Future[Path]] = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()

    def get(self, shard: Shard, upcoming: Shard | None = None) -> Path:
        """Return the local file of a shard, and start to download `upcoming`, the next one.

        Raises BadData if the shard is missing or damaged, or differs from the index.
        """
        download = self._request(shard)
        path = download.result()
        if upcoming is not None and not self._location.is_local:
            self._request(upcoming)
        return path

    def evict(self, shard: Shard) -> None:
        """Delete the download of a shard that is not needed any more."""
        download = self._downloads.pop(shard.name, None)
        if download is not None and not self._location.is_local:
            download.result().unlink(missing_ok=True)

    def _request(self, shard: Shard) -> "Future[Path]":
        if shard.name not in self._downloads:
            self._downloads[shard.name] = self._thread.submit(self._fetch, shard)
        return self._downloads[shard.name]

    def _fetch(self, shard: Shard) -> Path:
        where = self._location.address_of(shard.name)
        path = fetch_shard(
            self._location, shard.name, Path(self._folder.name), shard.bytes, self._closed
        )
        found = path.stat()
        version = (found.st_size, found.st_mtime_ns)
        if self._location.is_local and self._verified.versions.get(shard.name) == version:
            return path
        if found.st_size != shard.bytes:
            raise BadData(
                f"the shard {where} has {found.st_size:,} bytes instead of {shard.bytes:,}: "
                "it is truncated, or the index was made for another file; download it again, or "
                "export the data set or build its index again"
            )
        digest = file_sha256(path, where)
        if digest != shard.sha256:
            raise BadData(
                f"the shard {where} has changed since its index was made: its SHA-256 is "
                f"{digest[:12]} instead of {shard.sha256[:12]}; restore the file, or export the "
                "data set or build its index again"
            )
        self._verified.versions[shard.name] = version
        return path


def fetch_shard(
    location: StorageLocation,
    name: str,
    folder: Path,
    max_bytes: int,
    cancelled: Event | None = None,
) -> Path:
    """Return a shard as a regular local file, downloaded to `folder` if it is remote.

    Raises BadData if the shard is missing, larger than `max_bytes`, or cannot be downloaded.
    """
    where = location.address_of(name)
    try:
        path = location.fetch(name, folder, max_bytes, cancelled)
    except FileNotFoundError as error:
        raise BadData(
            f"the shard {where} is gone: the index lists it, but there is no such file"
        ) from error
    if not path.is_file():
        raise BadData(f"the shard {where} is gone, or is not a regular file")
    return path


def file_sha256(path: Path, where: str) -> str:
    """Return the SHA-256 of a file in hex; BadData, naming the shard `where`, if unreadable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadData(f"the shard {where} cannot be read: {error.strerror}") from error
