"""Reports of MIMIC-CXR, `p10/p10000032/s50414267.txt`, from the official zip or a folder.

The zip is read entry by entry without unpacking; names of entries are only compared, never used as
paths. An entry of more than MAX_BYTES is refused before it is read.
"""

import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from g2dbench.data.tables.files import is_within
from g2dbench.errors import BadData

MAX_BYTES = 1 << 20

_ENTRY = re.compile(r"(?:mimic-cxr-reports/)?(?:files/)?(p\d\d/p\d+/s\d+\.txt)", re.ASCII)
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError)


class Reports(Protocol):
    """The interface of a source of reports."""

    def read(self, subject: str, study: str) -> str | None:
        """The text of a study's report, or None if there is none; BadData if it is damaged."""
        ...


def open_reports(path: Path) -> Reports:
    """Reports in a zip, or in a folder that holds p10/ to p19/ or files/; BadData if unreadable."""
    if path.is_file():
        return ZippedReports(path)
    if path.is_dir():
        return UnpackedReports(path)
    raise BadData(f"there are no reports at {path}: neither a zip nor a folder")


class ZippedReports:
    """`mimic-cxr-reports.zip`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            entries = self._zip.infolist()
        except _DAMAGED as error:
            raise BadData(f"the reports {path} are no readable zip: {error}") from error
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            match = _ENTRY.fullmatch(entry.filename)
            if match is not None and self._entries.setdefault(match[1], entry) is not entry:
                raise BadData(f"the reports {path} hold {match[1]} twice")
        if not self._entries:
            raise BadData(
                f"the zip {path} holds no report such as files/p10/p10000032/s50414267.txt"
            )

    def read(self, subject: str, study: str) -> str | None:
        """The text of a study's report, or None if there is none; BadData if it is damaged."""
        entry = self._entries.get(_name(subject, study))
        if entry is None:
            return None
        where = f"{entry.filename} in {self._path}"
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BadData(f"the report {where} is a link; a zip's links are not followed")
        if entry.file_size > MAX_BYTES:
            raise _too_large(where)
        try:
            with self._zip.open(entry) as file:
                data = file.read(MAX_BYTES + 1)
        except _DAMAGED as error:
            raise BadData(f"the report {where} cannot be read: {error}") from error
        return _text(data, where)


class UnpackedReports:
    """The folder that the zip unpacks to."""

    def __init__(self, folder: Path) -> None:
        inner = folder / "files"
        self._folder = inner if inner.is_dir() else folder
        self._real = self._folder.resolve()

    def read(self, subject: str, study: str) -> str | None:
        """The text of a study's report, or None if there is none; BadData if it is damaged."""
        path = self._folder / _name(subject, study)
        if not path.is_file():
            return None
        if not is_within(path, (self._real,)):
            raise BadData(f"the report {path} is a link that leads out of {self._folder}")
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadData(f"the report {path} cannot be read: {error.strerror}") from error
        return _text(data, str(path))


def _name(subject: str, study: str) -> str:
    return f"p{subject[:2]}/p{subject}/s{study}.txt"


def _text(data: bytes, where: str) -> str:
    if len(data) > MAX_BYTES:
        raise _too_large(where)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"the report {where} is no UTF-8 text: {error}") from error


def _too_large(where: str) -> BadData:
    return BadData(f"the report {where} is larger than {MAX_BYTES} bytes: no report")
