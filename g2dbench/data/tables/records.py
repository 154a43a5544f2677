"""What readers of official layouts share: tables, files, and what could not be used.

A reader's `read(root)` yields `Record` for a usable image, `Rejected` for a broken row or file,
and `Missing` for an image that a table lists and the folder lacks (an excerpt).
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


Found = Record | Rejected | Missing
