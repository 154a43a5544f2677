"""Cells in an object store: `--out s3://...`, and results that are read from there.

A store has neither renames nor locks, so a cell is one object, a tar of its folder, that is written
as a whole: TASK/DATA/MODEL/CELL.tar. On each machine cells are in a folder as always: they are
fetched into it, and put into the store from there (decision 012).

An object may come from a stranger: nothing but plain files with plain names is taken out of it.
"""

import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from g2dbench.data.shards.remote import StorageLocation
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.cell_folder import LOCKS, publish
from g2dbench.result import RESULT_FILE
from g2dbench.system.bounded_files import open_regular
from g2dbench.system.files import replace_file
from g2dbench.system.locks import try_lock

SUFFIX = ".tar"
VERSIONS = ".objects"
"""Folder of the versions of the objects, in the folder of the cells."""

MAX_OBJECT_BYTES = 8 << 30
MAX_FILES = 1000
THREADS = 8
"""Objects that are fetched at the same time."""

_BLOCK = 512


def copies_folder(cache: Path, address: str) -> Path:
    """The folder of the cells of a store on this machine."""
    plain = re.sub(r"[^a-zA-Z0-9]+", "-", address)[:60]
    return cache / f"{plain}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class RemoteCells:
    """The cells of a store, and the folder of their copies: a `CellStore`."""

    location: StorageLocation
    folder: Path

    def fetch(self, cell: Path) -> None:
        """Bring a cell from the store unless it is on disk; BadResult if the object is none."""
        name = self._name(cell)
        if not (cell / RESULT_FILE).is_file() and (version := self._version(name)) is not None:
            self._take(name, version)

    def add(self, cell: Path) -> None:
        """Put a cell into the store unless it is there: an earlier run could not."""
        if self._version(self._name(cell)) is None:
            self.replace(cell)

    def replace(self, cell: Path) -> None:
        """Put a cell into the store, in place of the one that is there; BadData if that fails."""
        name = self._name(cell)
        with tempfile.TemporaryDirectory() as place:
            archive = Path(place, "cell.tar")
            pack(cell, archive)
            self.location.put(name, archive)
        if (version := self._version(name)) is not None:
            self._note(name, version)

    def mirror(self) -> list[str]:
        """Make the folder as the store: fetch new and changed cells, remove those that are gone.

        Cells that were never put into the store stay, and so do those that a process is writing.
        Returns a sentence for each object that is no cell. BadData if the store cannot be read.
        """
        versions = self.location.list_versions()
        tars = {name: each for name, each in versions.items() if name.endswith(SUFFIX)}
        problems = [
            f"{self.location.address_of(name)} has not the name of a cell, TASK/DATA/MODEL/CELL.tar"
            for name in tars if not _is_cell_name(name)
        ]  # fmt: skip
        self._remove_gone(tars)
        changed = [name for name in tars if _is_cell_name(name) and not self._has(name, tars[name])]
        pool = ThreadPoolExecutor(THREADS)
        try:
            found = pool.map(lambda name: self._refresh(name, tars[name]), changed)
            return problems + [problem for problem in found if problem]
        finally:  # after an error or Ctrl-C, no further object is fetched
            pool.shutdown(cancel_futures=True)

    def unsent(self) -> int:
        """The number of cells in the folder that are not in the store, as it was last read."""
        cells = (path.parent for path in self.folder.glob(f"[!.]*/*/*/[!.]*/{RESULT_FILE}"))
        return sum(not self._noted(self._name(cell)).is_file() for cell in cells)

    def _refresh(self, name: str, version: str) -> str:
        """Fetch a cell unless a process is writing it; a sentence if the object is none."""
        locks = self.folder / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with try_lock(locks / self._cell(name).name) as holder:
            try:
                if holder is None:
                    self._take(name, version)
            except BadResult as error:
                return str(error)
        return ""

    def _take(self, name: str, version: str) -> None:
        """Put an object's files into the cell's place as a whole; the caller holds the lock."""
        cell, where = self._cell(name), self.location.address_of(name)
        fresh = cell.with_name(f".{cell.name}.fetched")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            if (size := int(version.partition(" ")[0])) > MAX_OBJECT_BYTES:
                raise ValueError(
                    f"it has {size:,} bytes, and at most {MAX_OBJECT_BYTES:,} are read"
                )
            with tempfile.TemporaryDirectory() as place:
                unpack(self.location.fetch(name, Path(place), MAX_OBJECT_BYTES), fresh)
            publish(fresh, cell)
        except FileNotFoundError:
            return  # it was removed a moment ago
        except (ValueError, tarfile.TarError) as error:
            raise BadResult(
                f"{where} is no cell: {error}; remove it, and run its cell again"
            ) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        self._note(name, version)

    def _remove_gone(self, tars: Iterable[str]) -> None:
        kept = set(tars)
        notes = self.folder / VERSIONS
        for note in [path for path in notes.rglob(f"*{SUFFIX}") if path.is_file()]:
            name = note.relative_to(notes).as_posix()
            if name not in kept:
                shutil.rmtree(self._cell(name), ignore_errors=True)
                note.unlink()

    def _version(self, name: str) -> str | None:
        try:
            return self.location.version(name)
        except FileNotFoundError:
            return None

    def _has(self, name: str, version: str) -> bool:
        """Whether the cell on disk is this version of the object."""
        try:
            noted = self._noted(name).read_text()
        except FileNotFoundError:
            return False
        return noted == version and (self._cell(name) / RESULT_FILE).is_file()

    def _note(self, name: str, version: str) -> None:
        replace_file(self._noted(name), lambda path: path.write_text(version))

    def _noted(self, name: str) -> Path:
        return self.folder / VERSIONS / name

    def _name(self, cell: Path) -> str:
        return cell.relative_to(self.folder).as_posix() + SUFFIX

    def _cell(self, name: str) -> Path:
        return self.folder / name.removesuffix(SUFFIX)


def pack(cell: Path, archive: Path) -> None:
    """Write the files of a cell as a tar whose bytes depend on the files alone."""
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(cell.iterdir()):
            if path.name.startswith(".") or not path.is_file() or path.is_symlink():
                continue
            if not _is_plain(path.name):
                raise BadResult(f"{path} has a name that a stored cell cannot have: rename it")
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(member, file)


def unpack(archive: Path, folder: Path) -> None:
    """Copy the files of a tar to a folder.

    ValueError or TarError if it has anything but plain files with plain names, ends too early, is
    larger than MAX_OBJECT_BYTES, or has no result. Each header is parsed alone: no extension of the
    format, which could name other places or take memory, is followed.
    """
    with open_regular(archive, MAX_OBJECT_BYTES) as file:
        for member in _members(file):
            with (folder / member.name).open("xb") as copy:
                _copy(file, copy, member.size)
            file.seek(-member.size % _BLOCK, 1)
    if not (folder / RESULT_FILE).is_file():
        raise ValueError(f"it has no {RESULT_FILE}")


def _members(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The headers of a tar; after each, the file stands at the member's bytes."""
    names: set[str] = set()
    while (header := file.read(_BLOCK)).strip(b"\0"):
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ValueError(f"{member.name!r} is no plain file")
        if not _is_plain(member.name) or member.name in names:
            raise ValueError(f"{member.name!r} is not the name of a file of a cell")
        names.add(member.name)
        if len(names) > MAX_FILES:
            raise ValueError(f"it has more than {MAX_FILES} files")
        yield member
    if len(header) < _BLOCK:
        raise ValueError("it ends too early")


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copy exactly `size` bytes; ValueError if there are fewer."""
    left = size
    while left > 0:
        part = source.read(min(left, 1 << 20))
        if not part:
            raise ValueError("it ends too early")
        target.write(part)
        left -= len(part)


def _is_cell_name(name: str) -> bool:
    parts = name.removesuffix(SUFFIX).split("/")
    return len(parts) == 4 and all(map(_is_plain, parts))


def _is_plain(name: str) -> bool:
    """Whether it is a name of a folder or a file of a cell (`cell_identity.folder_of`)."""
    letters = all(letter.isalnum() or letter in "+-_.=" for letter in name)
    return letters and 0 < len(name) <= 200 and not name.startswith(".")


def open_remote_cells(address: str, folder: Path) -> RemoteCells:
    """The cells at an address; BadData if it cannot be listed, Misuse if the extra is missing."""
    location = StorageLocation(address.rstrip("/"))
    if not location.can_list:
        raise BadData(f"{address} cannot be listed: results need a store such as s3://...")
    _ = location.is_local  # opens it, so that a missing extra is told before a cell is computed
    return RemoteCells(location, folder)
