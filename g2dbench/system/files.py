"""Atomic writes of files and folders, full disks, digests."""

import ctypes
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from g2dbench.system.temporaries import remove_dead, temporary_path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `write` gets a temporary path beside it, then it moves.

    Temporary files of killed processes in the same folder are removed. The file gets the
    permissions that the umask leaves. A full disk is an OSError that names
    `path`, whatever the library that writes raises for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead(path.parent)
    temporary = temporary_path(path)
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


_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)


def address_of(path: Path) -> str | None:
    """The address that was given as a path, in which `s3://` has one slash; None for a folder."""
    if (found := _ADDRESS.fullmatch(str(path))) is None:
        return None
    root = "/" if found[1].lower() in ("file", "local") else ""
    return f"{found[1]}://{root}{found[2]}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_EXCHANGE, _CURRENT_FOLDER = 2, -100
"""RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2."""


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step; in two where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    failed = True
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE)
        if failed and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    if failed:
        old = other.with_name(f".{other.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        other.rename(old)
        one.rename(other)
        old.rename(one)
