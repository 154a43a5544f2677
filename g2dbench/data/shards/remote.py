"""Lists, downloads and writes files in a local folder, an S3-compatible or http store (`fsspec`).

A file is downloaded as a whole, because every store supports that, and may have at most
`MAX_SHARD_BYTES`. Timeouts and a minimum rate end a transfer that makes no progress. An error that
may be temporary is retried, `MAX_TRIES` times in all. Errors name the address. Addresses contain no
passwords: the stores' libraries find their access keys (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import product
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from urllib.parse import quote

import fsspec
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from g2dbench.errors import BadData, Misuse
from g2dbench.system.files import replace_file

INSTALL_COMMAND = "pip install 'g2dbench[remote]'"
MAX_SHARD_BYTES = 2**36
"""Upper limit of the size of a shard."""

MAX_TRIES, RETRY_SECONDS = 4, 0.5
"""How often a request is made, and the seconds before the second try, which then double."""

CONNECT_TIMEOUT, READ_TIMEOUT = 20.0, 60.0
"""Seconds to connect, and seconds without data after which a connection is closed."""

MIN_RATE = 20_000.0
"""Bytes per second below which a transfer is aborted, after `READ_TIMEOUT` seconds."""

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_NAMES = 1_000_000
_HTTP = ("http", "https")
_PERMANENT_ERRORS = (400, 401, 403, 405, 410)  # http status codes for which a retry is useless
T = TypeVar("T")


@dataclass(frozen=True)
class StorageLocation:
    """A folder, local or remote. address: without a final slash, as users and errors write it."""

    address: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        scheme = self.address.partition("://")[0] if "://" in self.address else "file"
        try:
            fs, path = fsspec.core.url_to_fs(self.address, **_client_timeouts(scheme))
        except ImportError as error:
            raise Misuse(
                f"reading {self.address} needs more packages: {INSTALL_COMMAND}"
            ) from error
        except ValueError as error:
            raise Misuse(f"{self.address} is not the address of a store: {error}") from error
        return fs, str(path)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, whose files need no download."""
        return isinstance(self._opened[0], LocalFileSystem)

    @property
    def can_list(self) -> bool:
        """Whether the store can list its files."""
        return not self.address.startswith(tuple(f"{scheme}://" for scheme in _HTTP))

    def path(self, name: str) -> str:
        """The path of a file, as the store's library expects it."""
        root = self._opened[1]
        return f"{root}/{name}" if root else name

    def address_of(self, name: str) -> str:
        """The address of a file, as users write it."""
        return f"{self.address}/{name}"

    def list_files(self, pattern: str = "**") -> list[str]:
        """Return the sorted relative names of the files below that match.

        Hidden files are left out, because they are unfinished. Misuse if the store cannot list its
        files.
        """
        if not self.can_list:
            raise Misuse(
                f"an http store has no listing: {self.address} needs a shards.json "
                "(`g2dbench data export` writes it), or name the shards, as in "
                f"{self.address}/train-{{00000..00012}}.tar"
            )
        try:
            names = self._find()
        except FileNotFoundError:
            return []  # no such bucket
        files = fsspec.utils.glob_translate(pattern)
        return sorted(name for name in names if re.fullmatch(files, name))

    def list_versions(self) -> dict[str, str]:
        """Relative name -> version of each file below, sorted, by one listing.

        BadData if the bucket does not exist.
        """
        try:
            found = self._find()
        except FileNotFoundError as error:
            raise BadData(f"{self.address} cannot be listed: there is no such bucket") from error
        return {name: _version(found[name]) for name in sorted(found)}

    def _find(self) -> dict[str, dict[str, Any]]:
        """Relative name -> what the store says of each file below that is not hidden."""
        fs, root = self._opened
        fs.invalidate_cache()
        found = self._with_retries("**", lambda: fs.find(root, detail=True))
        names = {str(path)[len(root) :].lstrip("/"): each for path, each in found.items()}
        return {
            name: each
            for name, each in names.items()
            if not any(part.startswith(".") for part in name.split("/"))
        }

    def version(self, name: str) -> str:
        """The version of one file as in `list_versions`; FileNotFoundError if there is none."""
        fs = self._opened[0]
        fs.invalidate_cache()
        return _version(self._with_retries(name, lambda: fs.info(self.path(name))))

    def file_version(self, name: str) -> str:
        """Size, ETag and times of a file as far as the store gives them, without reading it."""
        fs = self._opened[0]
        found = self._with_retries(name, lambda: fs.info(self.path(name)))
        values = (found.get(key) for key in ("size", "ETag", "mtime", "LastModified"))
        return " ".join(str(value) for value in values if value is not None)

    def fetch(
        self,
        name: str,
        folder: Path,
        max_bytes: int = MAX_SHARD_BYTES,
        cancelled: Event | None = None,
    ) -> Path:
        """Return the file itself if it is local, or a copy of it downloaded to `folder`.

        max_bytes: largest size. cancelled: an event that ends the transfer.

        Raises FileNotFoundError if there is no such file, BadData if it cannot be downloaded.
        """
        fs = self._opened[0]
        if self.is_local:
            return Path(self.path(name))
        target = folder / quote(name, safe="")
        self._with_retries(
            name,
            lambda: fs.get_file(
                self.path(name), str(target), callback=_TransferLimits(max_bytes, cancelled)
            ),
        )
        return target

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: in a folder by renaming, in a store as one object."""
        fs, root = self._opened

        def put() -> None:
            if self.is_local:
                replace_file(Path(self.path(name)), lambda path: path.write_bytes(data))
            else:
                fs.makedirs(root, exist_ok=True)
                fs.pipe_file(self.path(name), data)

        self._with_retries(name, put)

    def put(self, name: str, file: Path) -> None:
        """Write a file of any size from a local one, atomically, as `write` does."""
        fs = self._opened[0]

        def put() -> None:
            if self.is_local:
                replace_file(Path(self.path(name)), lambda path: shutil.copyfile(file, path))
            else:
                fs.put_file(str(file), self.path(name))

        try:
            self._with_retries(name, put)
        except FileNotFoundError as error:
            raise BadData(
                f"{self.address_of(name)} cannot be written: there is no such bucket"
            ) from error

    def _with_retries(self, name: str, action: Callable[[], T]) -> T:
        """Run an action, and retry it after an error that may be temporary."""
        for tried in range(1, MAX_TRIES + 1):
            try:
                return action()
            except FileNotFoundError:
                raise
            except (PermissionError, NotImplementedError) as error:
                raise BadData(
                    f"{self.address_of(name)} is refused: {error or 'no access'}"
                ) from error
            except _TransferAborted as error:
                raise BadData(f"{self.address_of(name)} {error}") from error
            except Exception as error:  # each store's library has its own errors
                if tried == MAX_TRIES or getattr(error, "status", None) in _PERMANENT_ERRORS:
                    times = "refused" if tried < MAX_TRIES else f"after {tried} tries"
                    raise BadData(
                        f"{self.address_of(name)} cannot be read or written ({times}): "
                        f"{type(error).__name__}: {error}"
                    ) from error
            time.sleep(RETRY_SECONDS * 2 ** (tried - 1))
        raise AssertionError("unreachable")


def split_address(text: str) -> tuple[StorageLocation, str | None]:
    """Split an address into a folder and a pattern with `*`, `**` or `{00..12}`, if it has one."""
    text = text.rstrip("/")
    parts = text.split("/")
    special = [at for at, part in enumerate(parts) if re.search(r"[*?\[]|\{\d+\.\.", part)]
    # The address of a single shard is a pattern that matches this shard.
    last = parts[-1].lower().endswith((".parquet", ".tar"))
    cut = special[0] if special else len(parts) - 1 if last else len(parts)
    folder = "/".join(parts[:cut]) or ("/" if text.startswith("/") else ".")
    return StorageLocation(folder), "/".join(parts[cut:]) or None


def expand_braces(pattern: str) -> list[str] | None:
    """Return the names that `{00..12}` stands for, in order; None if a listing is needed."""
    if re.search(r"[*?\[]", pattern):
        return None
    spans = [(m[1], m[2]) for m in _BRACES.finditer(pattern)]
    count = 1
    for low, high in spans:
        count *= max(int(high) - int(low) + 1, 0)
    if not 0 < count <= _MAX_NAMES:
        raise Misuse(f"{pattern!r} stands for {count} shards")
    choices = [
        [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
        for low, high in spans
    ]
    fixed = _BRACES.split(pattern)[::3]
    return [
        fixed[0] + "".join(a + b for a, b in zip(chosen, fixed[1:], strict=True))
        for chosen in product(*choices)
    ]


def _version(found: Mapping[str, Any]) -> str:
    """Size and ETag of a file; without an ETag, its times."""
    keys = ("ETag",) if found.get("ETag") else ("mtime", "LastModified", "updated", "created")
    values = [found[key] for key in ("size", *keys) if key in found]
    return " ".join(
        str(each.timestamp() if isinstance(each, datetime) else each) for each in values
    )


class _TransferAborted(Exception):
    """A transfer ended for a reason that a retry does not remove."""


class _TransferLimits(Callback):
    """Ends a transfer that is too large, too slow or cancelled."""

    def __init__(self, max_bytes: int, cancelled: Event | None) -> None:
        super().__init__()
        self._max_bytes, self._cancelled = max_bytes, cancelled
        self._got, self._began = 0, time.monotonic()

    def relative_update(self, inc: int = 1) -> None:
        """Count `inc` more bytes; `fsspec` calls this for each part of a file."""
        self._got += inc
        if self._got > self._max_bytes:
            raise _TransferAborted(f"has more than {self._max_bytes:,} bytes")
        if self._cancelled is not None and self._cancelled.is_set():
            raise _TransferAborted("is not needed any more")
        taken = time.monotonic() - self._began
        if taken > READ_TIMEOUT and self._got < (taken - READ_TIMEOUT) * MIN_RATE:
            raise TimeoutError(f"only {self._got:,} bytes came in {taken:.0f} s")


def _client_timeouts(scheme: str) -> dict[str, Any]:
    """Return the options of a store's library that set its timeouts."""
    if scheme in _HTTP:
        try:
            from aiohttp import ClientTimeout
        except ImportError as error:
            raise Misuse(f"reading from http needs aiohttp: {INSTALL_COMMAND}") from error
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        return {"client_kwargs": {"timeout": timeout}}
    if scheme == "s3":
        limits = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT}
        return {"config_kwargs": {**limits, "retries": {"max_attempts": MAX_TRIES}}}
    return {}
