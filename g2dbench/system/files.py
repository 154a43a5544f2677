"""Atomic file writes, file locks, full disks, digests."""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from g2dbench.errors import Misuse


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock for a path; the system releases it when the process ends."""
    with _lock(folder).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def alone_at_once(folder: Path) -> Iterator[None]:
    """The same, but Misuse where another process holds the lock."""
    with _lock(folder).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misuse(f"another process writes {folder}: wait for it, or stop it") from error
        yield


def _lock(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `write` gets a temporary path beside it, then it moves.

    The file gets the permissions that the umask leaves. A full disk is an OSError that names
    `path`, whatever the library that writes raises for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    try:
        # Made here and not by `tempfile`, whose files only their owner may read; safetensors makes
        # such a file in its place, so that the mode is set again.
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except Exception as error:
        if (reason := full_disk(error)) is None:
            raise
        raise OSError(reason, os.strerror(reason), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, quota used up, file larger than this process may write."""

_FULL_TEXTS = {
    **{f"os error {number})": number for number in _FULL},  # safetensors, in Rust
    **{os.strerror(number): number for number in _FULL},  # pyarrow, and others that quote
    "iostream error": errno.ENOSPC,  # torch, which keeps no number
    "PytorchStreamWriter failed": errno.ENOSPC,
}
"""What libraries whose errors are no OSError say of a disk that refuses."""


def full_disk(error: BaseException) -> int | None:
    """The errno with which the disk refused, if an error or one of its causes says that it did."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return seen.errno
        found = (number for text, number in _FULL_TEXTS.items() if text in str(seen))
        if (number := next(found, None)) is not None:
            return number
        seen = seen.__cause__ or seen.__context__
    return None


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that its new entries survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
