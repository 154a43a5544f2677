"""The items that readers of data sets yield.

A reader's `read(root)` yields a `Record` for a usable image, `Rejected` for a broken row or file,
`Missing` for an image that a table lists but the folder lacks (an excerpt), and `Note` for content
of a table that is not used. What is unknown about a single image is in the `notes` of its record.
"""

from dataclasses import dataclass
from pathlib import Path

from g2dbench.sample import Record


@dataclass(frozen=True)
class Rejected:
    """A broken row or file, and the reason why it is left out."""

    id: str
    path: Path | None
    reason: str


@dataclass(frozen=True)
class Missing:
    """An image that a table lists but the folder does not hold."""

    id: str
    path: Path | None


@dataclass(frozen=True)
class Note:
    """A sentence for the summary of a data set: what of a table is not used, and why."""

    text: str


Found = Record | Rejected | Missing | Note

NO_CORNERS = "a row lacks corners of its box, so that the image's boxes are not known"
"""The note of a record whose table lists a box without all of its corners."""
