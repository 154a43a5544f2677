"""`g2dbench cache show|clear`: the cached features of frozen encoders."""

import datetime

import typer

from g2dbench.cli.blocks import Block, show
from g2dbench.cli.console import console
from g2dbench.cli.options import DEFAULT_FEATURE_CACHE, FeatureCache

app = typer.Typer(no_args_is_help=True, help="Show or clear cached features of frozen encoders.")


@app.command("show", epilog="Example: g2dbench cache show")
def show_entries(feature_cache: FeatureCache = DEFAULT_FEATURE_CACHE) -> None:
    """List the entries, the most recently used first, and the size of all."""
    from g2dbench.evaluation.feature_cache import EntryInfo, entries

    def block(info: EntryInfo) -> Block:
        used = datetime.datetime.fromtimestamp(info.used).isoformat(" ", "minutes")
        facts = (
            ("output", str(info.key.get("output"))[:200]),
            ("weights", str(info.key.get("weights"))[:12]),
            ("data", f"{str(info.key.get('data'))[:12]}, {info.key.get('size')} px"),
            ("used", used),
        )
        return Block(info.folder.name[:12], f"{info.size / 1e6:,.1f} MB", facts)

    found = entries(feature_cache.expanduser())
    show([block(info) for info in found], console)
    total = sum(info.size for info in found)
    console.print(f"{len(found)} in {feature_cache}: {total / 1e9:.2f} GB", soft_wrap=True)


@app.command("clear", epilog="Example: g2dbench cache clear")
def clear_entries(feature_cache: FeatureCache = DEFAULT_FEATURE_CACHE) -> None:
    """Remove all cached features; the next evaluation computes what it needs."""
    from g2dbench.evaluation.feature_cache import clear

    freed = clear(feature_cache.expanduser())
    console.print(f"removed {freed / 1e9:.2f} GB from {feature_cache}", soft_wrap=True)
