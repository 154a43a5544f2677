"""Temporary files whose names say which process writes them; those of dead ones are removed.

    .result.json.1f2e3d4c-4711-88123-0a1b2c3d.json     of machine, process and its start

A process is dead for certain if this machine has no process of that number, or one that started at
another time. Of another machine, which may share the folder, only files of more than a day count.
"""

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

_OWNER = re.compile(r".*[.-]([0-9a-f]{8})-(\d+)-(\d+)-.*", re.DOTALL)
_FOREIGN_SECONDS = 86400
_UNKNOWN = 0


def temporary_path(path: Path) -> Path:
    """A hidden path beside `path`, with its suffix, that names this process."""
    return path.with_name(f".{path.name}.{owner()}-{secrets.token_hex(4)}{path.suffix}")


def owner() -> str:
    """This process, as names of temporary files state it."""
    return f"{_machine()}-{os.getpid()}-{_start(os.getpid())}"


def remove_dead(folder: Path, prefix: str = ".") -> None:
    """Remove the temporary files and folders of dead processes that lie directly in a folder."""
    with suppress(OSError):  # another process may remove the same ones
        for path in folder.iterdir():
            if path.name.startswith(prefix) and is_dead(path):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def is_dead(path: Path) -> bool:
    """Whether a path is a temporary one whose process has certainly ended."""
    found = _OWNER.fullmatch(path.name)
    if found is None:
        return False
    machine, process, start = found[1], int(found[2]), int(found[3])
    if machine != _machine():
        return time.time() - path.lstat().st_mtime > _FOREIGN_SECONDS
    return _start(process) not in (start, _UNKNOWN)


@cache
def _machine() -> str:
    """This machine since its last start, and the container in which the process is."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]


def _start(process: int) -> int:
    """When a process started, in ticks; _UNKNOWN if the system hides it, -1 if there is none."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return -1
    except OSError:  # of another user
        return _UNKNOWN
    return _UNKNOWN
