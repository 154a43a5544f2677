"""Broken zips of MIMIC-CXR's reports: path traversal, zip bombs, missing and duplicate entries."""

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from support.hostile.kit import BAD, BROKEN, GOOD, Case, png
from support.hostile.roots import report_of, write_reports

ZIP = "mimic-cxr-reports.zip"
TEXT = {report_of(GOOD): b"Clear."}


def changed(
    name: str, change: Callable[[bytes], bytes | None], harmless: tuple[str, ...] = ()
) -> None:
    """A case that changes the zip of two valid reports; None removes the zip."""

    def place(root: Path) -> None:
        data = change((root / ZIP).read_bytes())
        (root / ZIP).unlink()
        if data is not None:
            (root / ZIP).write_bytes(data)

    BROKEN[f"zip: {name}"] = Case("mimic_cxr", place, harmless)


def entries(name: str, more: dict[str, bytes], harmless: tuple[str, ...] = ()) -> None:
    """A case whose zip has these entries in addition to the valid report."""
    BROKEN[f"zip: {name}"] = Case(
        "mimic_cxr", lambda root: write_reports(root / ZIP, TEXT | more), harmless
    )


ESCAPING = (
    "../../elsewhere/x.txt", "/etc/cron.d/x", "files/p10/../../../x.txt", "C:\\x.txt",
    "files/p10/p10000002/../../../../s50000002.txt", "..\\..\\x.txt", "~/x.txt", "a\0b.txt",
    "files/p10/p10000002/s50000002.txt/", "x" * 5000,
)  # fmt: skip
entries("entries that escape", dict.fromkeys(ESCAPING, b"Escaped."), (BAD,))
entries("a zip within it", {"more.zip": png()}, (BAD,))
entries("a report too few", {}, (BAD,))
BROKEN["zip: no entry"] = Case("mimic_cxr", lambda root: write_reports(root / ZIP, {}))
BROKEN["zip: other entries alone"] = Case(
    "mimic_cxr", lambda root: write_reports(root / ZIP, {"readme.txt": b"x"})
)
entries("a report that explodes", {report_of(BAD): bytes(200_000_000)})
entries("a report of 2 MB", {report_of(BAD): b"x" * 2_000_000})
entries("an image for a report", {report_of(BAD): png()})
entries("a report in UTF-16", {report_of(BAD): "Klar.".encode("utf-16")})
entries("a report in Latin-1", {report_of(BAD): "Größer.".encode("latin-1")})
entries(
    "many small entries",
    {f"files/p10/p10000002/s{number}.txt": b"" for number in range(50_000_100, 53_000_100, 1000)},
    (BAD,),
)
changed("gone", lambda data: None)
changed("empty", lambda data: b"")
changed("a web page", lambda data: b"<html>404</html>")
changed("bytes before it", lambda data: b"#!/bin/sh\nexit\n" + data, (BAD,))
changed("bytes behind it", lambda data: data + bytes(70_000))
for share in (0.2, 0.5, 0.8, 0.99):
    changed(f"cut at {share:.0%}", lambda data, share=share: data[: int(len(data) * share)])
changed("its directory overwritten", lambda data: data.replace(b"PK\x01\x02", b"PK\x09\x09"))
changed("its entries overwritten", lambda data: data.replace(b"PK\x03\x04", b"PK\x09\x09"))
changed(
    "other numbers of entries claimed",
    lambda data: data[:-12] + struct.pack("<H", 65_535) + data[-10:],
    (BAD,),
)


def second(data: bytes, at: int, value: bytes) -> bytes:
    """The zip with a field of the second report's directory entry replaced."""
    first = data.index(b"PK\x01\x02")
    start = data.index(b"PK\x01\x02", first + 4) + at
    return data[:start] + value + data[start + len(value) :]


changed("an encrypted report", lambda data: second(data, 8, b"\1\0"))
changed("an unknown compression", lambda data: second(data, 10, b"\x63\0"))
changed("another checksum", lambda data: second(data, 16, b"\0\0\0\0"))
changed("a size that lies", lambda data: second(data, 24, b"\1\0\0\0"))
changed("a size of 4 GB", lambda data: second(data, 24, b"\xff\xff\xff\xf0"))
changed("a place outside", lambda data: second(data, 42, b"\0\0\0\x70"))


def twice(root: Path) -> None:
    with zipfile.ZipFile(root / ZIP, "w") as file:
        for name in (report_of(GOOD), report_of(BAD), report_of(BAD)):
            file.writestr(name, b"Clear.")


def linked(root: Path) -> None:
    link = zipfile.ZipInfo(report_of(BAD))
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(root / ZIP, "w") as file:
        file.writestr(report_of(GOOD), b"Clear.")
        file.writestr(link, b"/etc/passwd")


def nested(root: Path) -> None:
    """Both `files/...` and `mimic-cxr-reports/files/...` name one report."""
    write_reports(
        root / ZIP,
        TEXT | {report_of(BAD): b"One.", f"mimic-cxr-reports/{report_of(BAD)}": b"Other."},
    )


BROKEN["zip: a report twice"] = Case("mimic_cxr", twice)
BROKEN["zip: a report by two names"] = Case("mimic_cxr", nested)
BROKEN["zip: a link for a report"] = Case("mimic_cxr", linked)
