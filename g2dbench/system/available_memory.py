"""How much memory this process may still use."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Limit and use of a container in control groups of version 2 and 1, and its cache of files."""


def available_mib() -> float:
    """Memory in MiB that is free, or used for files only, within the limit of the container."""
    if not _MEMINFO.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    free = [int(fields["MemAvailable"].split()[0]) / 2**10]
    free += [room for group in _CGROUPS if (room := _room(*group)) is not None]
    return max(0.0, min(free))


def _room(folder: Path, limit: str, used: str, files: str) -> float | None:
    """What a control group leaves, in MiB; None without such a group or limit."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        cached = {name: int(value) for name, value in (line.split() for line in lines)}
        total = int((folder / limit).read_text()) - int((folder / used).read_text())
        return (total + cached.get(files, 0)) / 2**20
    except (OSError, ValueError):  # no such group; "max" is no limit
        return None
