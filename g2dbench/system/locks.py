"""Locks between processes, which the system releases when their holder ends, however it ends.

A child that is forked while the lock is held gives its copy back, so that the workers of a killed
process do not keep the lock.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from g2dbench.errors import Busy

GRACE_SECONDS = 1.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock for a path; wait for a process that holds it."""
    with _lock_file(folder).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _held(lock):
            yield


@contextmanager
def locked_at_once(folder: Path, lock_file: Path | None = None) -> Iterator[None]:
    """The same, but Busy, which says who holds it, where another process holds the lock.

    lock_file: the file to lock, by default a hidden one beside `folder`. A process that was killed
    just now may need a moment to end, so that the lock is tried for `GRACE_SECONDS`.
    """
    with try_lock(folder, lock_file, GRACE_SECONDS) as holder:
        if holder is not None:
            raise Busy(f"{holder} is at work on {folder}: wait until it ends, or stop it")
        yield


@contextmanager
def try_lock(
    folder: Path, lock_file: Path | None = None, seconds: float = 0.0
) -> Iterator[str | None]:
    """Hold the lock if it is free within `seconds`; yields None then, else who holds it."""
    limit = time.monotonic() + seconds
    with (lock_file or _lock_file(folder)).open("a+") as lock:
        while not _take(lock):
            if time.monotonic() >= limit:
                yield _holder(lock)
                return
            time.sleep(0.05)
        with _held(lock):
            yield None


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_open_locks: set[IO[str]] = set()
"""The locks that this process holds."""


@contextmanager
def _held(lock: IO[str]) -> Iterator[None]:
    """Note the holder in the lock's file while it is held."""
    _open_locks.add(lock)
    with suppress(OSError):  # a full disk: the note is for people, the lock holds without it
        lock.truncate(0)
        started = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        note = {"process": os.getpid(), "host": socket.gethostname(), "since": started}
        lock.write(json.dumps(note))
        lock.flush()
    try:
        yield
    finally:
        _open_locks.discard(lock)
        with suppress(OSError, ValueError):  # closed in a forked child
            lock.truncate(0)


def _holder(lock: IO[str]) -> str:
    """The holder that a lock's file names."""
    try:
        lock.seek(0)
        note = json.loads(lock.read(4096))
        return f"process {note['process']} on {note['host']} (since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _give_back() -> None:
    """In a forked child: close the copies of the parent's locks."""
    for lock in list(_open_locks):
        with suppress(OSError):
            lock.close()
    _open_locks.clear()


os.register_at_fork(after_in_child=_give_back)


def _lock_file(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")
