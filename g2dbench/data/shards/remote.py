"""Files of a folder, an S3-like or an http store, by way of `fsspec`: listed, fetched, written.

A file is fetched as a whole, for every store can do that. It may take `MOST_BYTES` at most, and a
connection that stands still or crawls is given up, so that nothing waits for ever. What may be a
passing failure is tried `TRIES` times. Errors name the address. Addresses never hold passwords:
stores find their keys as their libraries do (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
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

PIP_LINE = "pip install 'g2dbench[remote]'"
MOST_BYTES = 2**36
"""A larger file is no shard."""

TRIES, WAIT = 4, 0.5
"""How often a file is asked for, and the seconds before the second time; they double."""

CONNECT, SILENCE = 20.0, 60.0
"""Seconds that a connection may take, and that it may then say nothing."""

SLOWEST = 20_000.0
"""Bytes per second below which a transfer is given up, after `SILENCE` seconds."""

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_NAMES = 1_000_000
_HTTP = ("http", "https")
_FINAL = (400, 401, 403, 405, 410)  # http says that asking again is no use
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A folder of a store. address: without a slash at its end; errors and users see it."""

    address: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        scheme = self.address.partition("://")[0] if "://" in self.address else "file"
        try:
            fs, path = fsspec.core.url_to_fs(self.address, **_patience(scheme))
        except ImportError as error:
            raise Misuse(f"reading {self.address} needs more packages: {PIP_LINE}") from error
        except ValueError as error:
            raise Misuse(f"{self.address} is no address of a store: {error}") from error
        return fs, str(path)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, whose files need no fetching."""
        return isinstance(self._opened[0], LocalFileSystem)

    @property
    def can_list(self) -> bool:
        """Whether the store tells what it holds."""
        return not self.address.startswith(tuple(f"{scheme}://" for scheme in _HTTP))

    def path(self, name: str) -> str:
        """A file as the store's library is told it."""
        root = self._opened[1]
        return f"{root}/{name}" if root else name

    def shown(self, name: str) -> str:
        """A file as users know it."""
        return f"{self.address}/{name}"

    def names(self, pattern: str = "**") -> list[str]:
        """Files below that match, relative, sorted, but hidden ones, which nobody finished.

        Misuse where the store has no listing.
        """
        if not self.can_list:
            raise Misuse(
                f"an http store has no listing: {self.address} needs a shards.json "
                "(`g2dbench data export` writes it), or say which shards, as in "
                f"{self.address}/train-{{00000..00012}}.tar"
            )
        fs, root = self._opened
        fs.invalidate_cache()
        try:
            found = self._tried(pattern, lambda: fs.find(root))
        except FileNotFoundError:
            return []  # no such bucket
        files = fsspec.utils.glob_translate(pattern)
        names = (str(path)[len(root) :].lstrip("/") for path in found)
        shown = (name for name in names if not any(p.startswith(".") for p in name.split("/")))
        return sorted(name for name in shown if re.fullmatch(files, name))

    def tag(self, name: str) -> str:
        """What the store says of a file without reading it: size, ETag, time, as far as it does."""
        fs = self._opened[0]
        found = self._tried(name, lambda: fs.info(self.path(name)))
        told = (found.get(key) for key in ("size", "ETag", "mtime", "LastModified"))
        return " ".join(str(value) for value in told if value is not None)

    def fetch(
        self, name: str, folder: Path, most: int = MOST_BYTES, ended: Event | None = None
    ) -> Path:
        """A local file with these contents: the file itself, or a copy in `folder`.

        most: bytes that it may have. ended: once set, a transfer stops at its next part.

        Raises FileNotFoundError where there is none, BadData where it cannot be had.
        """
        fs = self._opened[0]
        if self.is_local:
            return Path(self.path(name))
        target = folder / quote(name, safe="")
        self._tried(
            name,
            lambda: fs.get_file(self.path(name), str(target), callback=_Patience(most, ended)),
        )
        return target

    def write(self, name: str, data: bytes) -> None:
        """A file whole or, in a folder, not at all; stores put files whole by themselves."""
        fs, root = self._opened

        def put() -> None:
            if self.is_local:
                replace_file(Path(self.path(name)), lambda path: path.write_bytes(data))
            else:
                fs.makedirs(root, exist_ok=True)
                fs.pipe_file(self.path(name), data)

        self._tried(name, put)

    def _tried(self, name: str, action: Callable[[], T]) -> T:
        """Do it, again where the failure may pass."""
        for tried in range(1, TRIES + 1):
            try:
                return action()
            except FileNotFoundError:
                raise
            except (PermissionError, NotImplementedError) as error:
                raise BadData(f"{self.shown(name)} is refused: {error or 'no access'}") from error
            except _GivenUp as error:
                raise BadData(f"{self.shown(name)} {error}") from error
            except Exception as error:  # every store's library has errors of its own
                if tried == TRIES or getattr(error, "status", None) in _FINAL:
                    times = "refused" if tried < TRIES else f"after {tried} tries"
                    raise BadData(
                        f"{self.shown(name)} cannot be had ({times}): "
                        f"{type(error).__name__}: {error}"
                    ) from error
            time.sleep(WAIT * 2 ** (tried - 1))
        raise AssertionError("unreachable")


def split_address(text: str) -> tuple[Place, str | None]:
    """The folder of an address, and the pattern that follows it: `*`, `**` or `{00..12}`."""
    text = text.rstrip("/")
    parts = text.split("/")
    special = [at for at, part in enumerate(parts) if re.search(r"[*?\[]|\{\d+\.\.", part)]
    # A single file stands for itself.
    last = parts[-1].lower().endswith((".parquet", ".tar"))
    cut = special[0] if special else len(parts) - 1 if last else len(parts)
    folder = "/".join(parts[:cut]) or ("/" if text.startswith("/") else ".")
    return Place(folder), "/".join(parts[cut:]) or None


def expand(pattern: str) -> list[str] | None:
    """The names that `{00..12}` stands for, in order; None where a listing is needed."""
    if re.search(r"[*?\[]", pattern):
        return None
    spans = [(m[1], m[2]) for m in _BRACES.finditer(pattern)]
    count = 1
    for low, high in spans:
        count *= max(int(high) - int(low) + 1, 0)
    if not 0 < count <= _MOST_NAMES:
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


class _GivenUp(Exception):
    """A transfer that there is no use in trying again."""


class _Patience(Callback):
    """Ends a transfer that becomes too large or too slow."""

    def __init__(self, most: int, ended: Event | None) -> None:
        super().__init__()
        self._most, self._ended = most, ended
        self._got, self._began = 0, time.monotonic()

    def relative_update(self, inc: int = 1) -> None:
        """Called with each part that arrived."""
        self._got += inc
        if self._got > self._most:
            raise _GivenUp(f"has more than {self._most:,} bytes")
        if self._ended is not None and self._ended.is_set():
            raise _GivenUp("is not needed any more")
        taken = time.monotonic() - self._began
        if taken > SILENCE and self._got < (taken - SILENCE) * SLOWEST:
            raise TimeoutError(f"only {self._got:,} bytes came in {taken:.0f} s")


def _patience(scheme: str) -> dict[str, Any]:
    """What a store's library is told about waiting."""
    if scheme in _HTTP:
        try:
            from aiohttp import ClientTimeout
        except ImportError as error:
            raise Misuse(f"reading from http needs aiohttp: {PIP_LINE}") from error
        timeout = ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        return {"client_kwargs": {"timeout": timeout}}
    if scheme == "s3":
        limits = {"connect_timeout": CONNECT, "read_timeout": SILENCE}
        return {"config_kwargs": {**limits, "retries": {"max_attempts": TRIES}}}
    return {}
