"""What readers of official layouts share: tables, files, and what could not be used.

A reader's `read(root)` yields `Record` for a usable image, `Rejected` for a broken row or file,
`Missing` for an image that a table lists and the folder lacks (an excerpt), and `Note` for what a
table holds that no record shows. What a single record lacks is in its `notes`.
"""

from dataclasses import dataclass
from pathlib import Path

from g2dbench.sample import Record


@dataclass(frozen=True)
class Rejected:
    """A broken row or file, and why it was left out."""

    id: str
    path: Path | None
    reason: str


@dataclass(frozen=True)
class Missing:
    """An image that a table lists and the folder does not hold."""

    id: str
    path: Path | None


@dataclass(frozen=True)
class Note:
    """A sentence about a table, shown in the summary: what of it is not used, and why."""

    text: str


Found = Record | Rejected | Missing | Note

NO_CORNERS = "a row lacks corners of its box, so that the image's boxes are not known"
"""The note of a record whose table says that there is a box, but not where."""
