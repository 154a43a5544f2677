"""What `g2dbench data list` prints: a block per data set, or JSON."""

import json
from dataclasses import asdict

from g2dbench.cli.blocks import Block
from g2dbench.data.inventory import Holding


def as_blocks(found: list[Holding]) -> list[Block]:
    """Name and summary, what it offers, where to get it and its licence, what is prepared."""
    return [_block(item) for item in found]


def _block(item: Holding) -> Block:
    facts = (
        ("offers", ", ".join(item.offers)),
        ("from", item.url.removeprefix("https://")),
        ("licence", item.licence),
        ("prepared", "; ".join(map(str, item.prepared)) or _unprepared(item)),
    )
    return Block(item.name, item.summary, facts)


def _unprepared(item: Holding) -> str:
    if item.generic:
        return "under the name that --name gives"
    return "on demand" if item.embedded else "no"


def as_json(found: list[Holding]) -> str:
    """The same as a JSON list, one object per data set."""
    return json.dumps([asdict(item) for item in found], indent=1, ensure_ascii=False)
