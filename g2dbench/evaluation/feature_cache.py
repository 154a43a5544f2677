"""Features of a frozen encoder on disk, shared by tasks, fractions, seeds and processes.

An entry holds one output of one model on one prepared data set; its key has everything that can
change a bit of the features. An entry is a folder of segments: immutable safetensors files with
the features of some images and their ids. A process writes a segment as a whole, under a new name,
so that several writers never disturb each other, and what a stopped process wrote is used by the
next one. A segment whose checksum is wrong is removed and its images are encoded again.

Legend: N images.
"""

import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from g2dbench.pretrained.tensor_files import save_tensors
from g2dbench.system.environment import package_versions
from g2dbench.system.files import replace_file
from g2dbench.system.locks import locked
from g2dbench.system.machine import Machine

SEGMENT_BYTES = 256 << 20
"""Features are collected up to this size before they are written as one segment."""

GPU_IMAGE_BYTES = 256 << 10
"""Largest features of one image that are cached on a GPU: encoding is faster than reading more."""

KEY_FILE, SEGMENT_SUFFIX = "key.json", ".safetensors"

Maps: TypeAlias = list[Tensor]
"""Outputs for one batch, each (B, ...): a feature pyramid, or one pooled feature."""


@dataclass(frozen=True)
class EntryInfo:
    """An entry as `g2dbench cache show` lists it; used: seconds since the epoch."""

    folder: Path
    key: Mapping[str, Any]
    size: int
    used: float


class CacheEntry:
    """The features of one output of one model on one data set.

    hits, computed: number of images whose features were read, and that were encoded.
    """

    def __init__(self, root: Path, limit: int, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.hits = self.computed = 0
        self._root, self._limit, self._key = root, limit, text
        self._segments: dict[str, Maps] = {}
        self._rows: dict[str, tuple[str, int]] = {}
        self._pending: dict[str, Maps] = {}
        self._pending_bytes = 0
        self.refresh()
        with suppress(OSError):  # no entry yet, or one that another process is removing
            os.utime(self.folder / KEY_FILE)  # the time of last use, for eviction

    def read(self, ids: Sequence[str]) -> Maps | None:
        """The features of these images, each (N, ...) on the CPU; None unless all are here."""
        found = [self._pending.get(name) or self._row(name) for name in ids]
        if not found or any(row is None for row in found):
            return None
        self.hits += len(found)
        rows = [row for row in found if row is not None]
        return [torch.stack(level) for level in zip(*rows, strict=True)]

    def add(self, ids: Sequence[str], maps: Maps) -> None:
        """Keep the features of these images; they are on disk after `flush` at the latest."""
        self.computed += len(ids)
        on_cpu = [level.detach().cpu() for level in maps]
        for number, name in enumerate(ids):
            # A copy: a view would keep the whole batch in memory.
            self._pending[name] = [level[number].clone() for level in on_cpu]
            self._pending_bytes += sum(level.nbytes for level in self._pending[name])
        if self._pending_bytes >= SEGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk as a segment, and remove old entries beyond the size limit."""
        self.refresh()  # another process may have written the same images meanwhile
        new = {name: row for name, row in self._pending.items() if name not in self._rows}
        self._pending, self._pending_bytes = {}, 0
        if not new or self._size() + _size_of(new) > self._limit:
            return
        with locked(self._root / "cache"):  # no other process removes the folder meanwhile
            key = self.folder / KEY_FILE
            replace_file(key, lambda temporary: temporary.write_text(self._key, encoding="utf-8"))
            _write_segment(self.folder / f"{secrets.token_hex(8)}{SEGMENT_SUFFIX}", new)
        self.refresh()
        evict(self._root, self._limit, keep=self.folder)

    def _row(self, name: str) -> Maps | None:
        place = self._rows.get(name)
        if place is None:
            return None
        return [level[place[1]] for level in self._segments[place[0]]]

    def _size(self) -> int:
        return sum(level.nbytes for maps in self._segments.values() for level in maps)

    def refresh(self) -> None:
        """Open segments that are new on disk."""
        for path in sorted(self.folder.glob(f"[!.]*{SEGMENT_SUFFIX}")):
            if path.name in self._segments:
                continue
            found = _read_segment(path)
            if found is not None:
                names, self._segments[path.name] = found
                for number, name in enumerate(names):
                    self._rows.setdefault(name, (path.name, number))


class Turn:
    """The right to compute features of an entry, which one process has at a time.

    A process that has a turn already waits for no other, so that two processes never wait for each
    other; both then compute the same features.
    """

    _taken = False
    """Whether this process has a turn."""

    def __init__(self, entry: CacheEntry) -> None:
        self._entry = entry
        self._lock = ExitStack()
        self._mine = False

    def wait(self) -> bool:
        """Wait for the turn; True if it is new, and the entry may have new features now."""
        if Turn._taken:
            return False
        self._lock.enter_context(locked(self._entry.folder))
        Turn._taken = self._mine = True
        self._entry.refresh()
        return True

    def end(self) -> None:
        """Give the turn to the next process."""
        if self._mine:
            self._lock.close()
            Turn._taken = self._mine = False


def entry(machine: Machine, **key: Any) -> CacheEntry | None:
    """The entry with this key and the machine's properties; None if the machine has no cache."""
    if machine.features is None:
        return None
    return CacheEntry(machine.features.path, machine.features.limit, {**key, **_numerics(machine)})


def worth_caching(machine: Machine, image_bytes: int) -> bool:
    """Whether reading an image's features from disk is faster than encoding the image."""
    return machine.device.type == "cpu" or image_bytes <= GPU_IMAGE_BYTES


def entries(root: Path) -> list[EntryInfo]:
    """All entries, the most recently used first."""
    found = [_info(path.parent) for path in root.glob(f"*/{KEY_FILE}")]
    return sorted((info for info in found if info), key=lambda info: -info.used)


def clear(root: Path) -> int:
    """Remove all entries; returns the number of bytes that became free."""
    freed = 0
    if root.is_dir():
        with locked(root / "cache"):
            for info in entries(root):
                freed += info.size
                shutil.rmtree(info.folder, ignore_errors=True)
    return freed


def evict(root: Path, limit: int, keep: Path | None = None) -> None:
    """Remove the least recently used entries until all fit into `limit` bytes.

    A process that reads a removed entry goes on with what it has opened, and encodes the rest.
    """
    with locked(root / "cache"):
        found = entries(root)
        total = sum(info.size for info in found)
        for info in reversed(found):
            if total <= limit:
                return
            if info.folder != keep:
                shutil.rmtree(info.folder, ignore_errors=True)
                total -= info.size


def _numerics(machine: Machine) -> dict[str, Any]:
    """What decides the last bit of a float on this machine."""
    cuda = machine.device.type == "cuda"
    return {
        "precision": machine.precision,
        "device": torch.cuda.get_device_name(machine.device) if cuda else machine.device.type,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "packages": package_versions(),
    }


def _info(folder: Path) -> EntryInfo | None:
    try:
        key = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in folder.iterdir())
        return EntryInfo(folder, key, size, (folder / KEY_FILE).stat().st_mtime)
    except (OSError, ValueError):  # another process is removing it
        return None


def _size_of(rows: Mapping[str, Maps]) -> int:
    return sum(level.nbytes for row in rows.values() for level in row)


def _write_segment(path: Path, rows: Mapping[str, Maps]) -> None:
    levels = zip(*rows.values(), strict=True)
    tensors = {f"level{number}": torch.stack(level) for number, level in enumerate(levels)}
    names = json.dumps(list(rows))
    metadata = {"ids": names, "digest": _digest(names, tensors)}
    save_tensors(path, tensors, metadata)


def _read_segment(path: Path) -> tuple[list[str], Maps] | None:
    """Ids and memory-mapped features; None if the file is gone or broken; removes a broken one."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if metadata["digest"] != _digest(metadata["ids"], tensors):
            raise ValueError("the checksum does not match")
        return json.loads(metadata["ids"]), [tensors[f"level{n}"] for n in range(len(tensors))]
    except OSError:  # removed by another process, or not readable now: the file may be good
        return None
    except (SafetensorError, KeyError, ValueError):
        path.unlink(missing_ok=True)  # its images are encoded and stored again
        return None


def _digest(names: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(names.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
