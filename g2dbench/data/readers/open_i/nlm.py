"""Open-i as the National Library of Medicine distributes it: one XML report per study, PNG images.

    NLMCXR_reports/ecgen-radiology/1.xml, or ecgen-radiology/1.xml
    NLMCXR_png/CXR1_1_IM-0001-3001.png, or images below the root

The reader uses `uId`, the `AbstractText` sections FINDINGS and IMPRESSION, the `major` MeSH terms
up to their first `/` (Kaggle's Problems column), and the `id` of every `parentImage`. It does not
use the `automatic` terms, which a program found in the text. Ids are those of Kaggle's layout:
`{uid}_IM-...` for `CXR{uid}_IM-...`. The files do not contain the view of an image.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from g2dbench.data.tables.files import read_bytes
from g2dbench.errors import BadData

REPORTS = ("NLMCXR_reports/ecgen-radiology", "ecgen-radiology", "NLMCXR_reports")
IMAGES = ("NLMCXR_png", "images")

MAX_BYTES = 1_000_000
"""Largest size of a report file; the largest official one has about 10,000 bytes."""

_NAME = re.compile(r"CXR(\d+)_(?:\1_)?(IM-.+)")


@dataclass(frozen=True)
class Study:
    """One XML report. images: their names as written, without extension."""

    uid: str
    findings: str
    impression: str
    problems: str
    images: tuple[str, ...]


def find_reports(root: Path) -> Path | None:
    """Return the folder of XML reports below a root, or None if there is none."""
    places = (root / name for name in REPORTS)
    return next((place for place in places if place.is_dir() and any(place.glob("*.xml"))), None)


def read_studies(folder: Path) -> Iterator[tuple[Path, Study | BadData]]:
    """Read all reports of the folder, by number; an invalid one is Rejected."""
    files = sorted(folder.glob("*.xml"), key=lambda file: (len(file.stem), file.stem))
    for file in files:
        try:
            yield file, parse_study(file)
        except BadData as error:
            yield file, error


def image_id(name: str) -> str:
    """Return Kaggle's name of an image: `10_IM-0002-1001` for `CXR10_IM-0002-1001`.

    Some names have the number twice: `CXR1_1_IM-0001-3001` gives `1_IM-0001-3001`.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadData(f"{name!r} is no name of an Open-i image, such as CXR10_IM-0002-1001")
    return f"{match[1]}_{match[2]}"


def parse_study(file: Path) -> Study:
    """Parse a report; BadData if it is not XML, is too large, or declares a document type.

    A document type could define entities that expand without limit or read other files. The bytes
    are searched for it before they are parsed; NUL bytes are refused, since UTF-16 would hide it.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise BadData(f"the report {file} has more than {MAX_BYTES:,} bytes")
        data = read_bytes(file)
        if b"<!DOCTYPE" in data or b"\0" in data:
            raise BadData(f"the report {file} declares a document type, or is not in UTF-8")
        tree = ElementTree.fromstring(data)
    except BadData:
        raise
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadData(f"the report {file} cannot be read: {error}") from error
    marked = tree.find("uId")
    uid = "" if marked is None else marked.get("id", "").removeprefix("CXR")
    if not uid:
        raise BadData(f"the report {file} has no uId")
    majors = [(term.text or "").split("/", 1)[0].strip() for term in tree.iterfind("MeSH/major")]
    return Study(
        uid=uid,
        findings=_section(tree, "FINDINGS"),
        impression=_section(tree, "IMPRESSION"),
        problems=";".join(majors),
        images=tuple(image.get("id", "") for image in tree.iterfind("parentImage")),
    )


def _section(tree: ElementTree.Element, label: str) -> str:
    parts = (part for part in tree.iter("AbstractText") if part.get("Label") == label)
    return " ".join((part.text or "").strip() for part in parts).strip()
