"""The output of `g2dbench data list`: one block per data set, or JSON."""

import json
from dataclasses import asdict

from g2dbench.cli.blocks import Block
from g2dbench.data.inventory import DatasetEntry


def as_blocks(found: list[DatasetEntry]) -> list[Block]:
    """Name, summary, annotations, source, license, and the prepared stores of each data set."""
    return [_block(item) for item in found]


def _block(item: DatasetEntry) -> Block:
    facts = (
        ("offers", ", ".join(item.offers)),
        ("from", item.url.removeprefix("https://")),
        ("license", item.licence),
        ("prepared", "; ".join(map(str, item.prepared)) or _unprepared(item)),
    )
    return Block(item.name, item.summary, facts)


def _unprepared(item: DatasetEntry) -> str:
    if item.generic:
        return "under the name that you give with --name"
    return "on demand" if item.embedded else "no"


def as_json(found: list[DatasetEntry]) -> str:
    """A JSON list with one object per data set."""
    return json.dumps([asdict(item) for item in found], indent=1, ensure_ascii=False)
