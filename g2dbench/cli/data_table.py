"""What `g2dbench data list` prints: a table that fits a terminal, or JSON."""

import json
from dataclasses import asdict

from rich import box
from rich.table import Table

from g2dbench.data.inventory import Holding


def as_table(found: list[Holding]) -> Table:
    """Name, what it offers, where to get it under which licence, what of it is prepared."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 1, 0), pad_edge=False)
    table.add_column("data", style="bold", no_wrap=True)
    table.add_column("offers", width=7)
    table.add_column("what it is; where to get it; licence", overflow="fold", ratio=1)
    table.add_column("prepared", width=14)
    for item in found:
        prepared = "\n".join(map(str, item.prepared)) or _unprepared(item)
        lines = (item.summary, item.url.removeprefix("https://"), item.licence)
        told = "\n".join(line for line in lines if line)
        table.add_row(item.name, "\n".join(item.offers), told, prepared)
    return table


def _unprepared(item: Holding) -> str:
    if item.generic:
        return "under --name"
    return "on demand" if item.embedded else "no"


def as_json(found: list[Holding]) -> str:
    """The same as a JSON list, one object per data set."""
    return json.dumps([asdict(item) for item in found], indent=1, ensure_ascii=False)
