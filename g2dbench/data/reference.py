"""References to data sets on the command line; every command uses this grammar.

NAME            a data set of the registry, or user data that were prepared as NAME
NAME:COUNT      COUNT images of an embedded data set: synthetic:240
NAME@SPLIT      a data set under a published split: rsna@mgca-det
STORE           one prepared store, by its folder's name: rsna-256-1f2e3d4c
stream:ADDRESS  shards that are read from their address; only `pretrain` accepts them
"""

from dataclasses import dataclass

from g2dbench.errors import Misuse

STREAM = "stream:"


@dataclass(frozen=True)
class DataReference:
    """A parsed reference. text: as written, and the name under which results are stored."""

    text: str
    name: str
    count: int | None = None
    split: str | None = None


def parse(text: str) -> DataReference:
    """Parse a data reference; Misuse if it is invalid or names shards to be streamed."""
    if text.startswith(STREAM):
        raise Misuse(
            f"{text!r} names shards to be streamed, which only `g2dbench pretrain --data` takes: "
            "say a data set here, `g2dbench data list`"
        )
    bare, at, split = text.partition("@")
    name, colon, count = bare.partition(":")
    if colon and at:
        raise Misuse(f"{text!r}: say NAME:COUNT or NAME@SPLIT, not both")
    if not name or (at and not split) or (colon and not (count.isdecimal() and len(count) < 12)):
        raise Misuse(
            f"{text!r} names no data set: say NAME, NAME:COUNT (synthetic:240), NAME@SPLIT "
            "(rsna@mgca-det) or the name of a store's folder"
        )
    return DataReference(text, name, int(count) if colon else None, split or None)
