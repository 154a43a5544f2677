"""`g2dbench report`: one HTML file of leaderboards, plots and images."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2dbench.cli.compare.results import report_problems
from g2dbench.cli.console import console, track
from g2dbench.cli.open_data import open_evaluated
from g2dbench.cli.open_results import open_results
from g2dbench.cli.options import DEFAULT_STORE, NoImages, Plugins, Results, Store
from g2dbench.cli.panels import COMPARE
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.registry import Registry
    from g2dbench.reporting.html.report import OpenData

EPILOG = """Examples:

g2dbench report results --out report.html

g2dbench report results --no-images

The file needs no network and no other file. It shows images of the test set, with their IDs, where
the data set is prepared in --store: --no-images leaves out both, for data that must not leave the
building. Exit code: 1 if a result could not be read; the report is written all the same.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=COMPARE)(report)


def report(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    no_images: NoImages = False,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Write one HTML file: leaderboards, curves, differences, images, origin of every number."""
    from g2dbench.registry import Registry

    registry = Registry(plugin or ())
    opener = None if no_images else partial(open_evaluated, store=store, registry=registry)
    folder, unread = open_results(results)
    problems = write_report(folder, out, opener, registry)
    report_problems([*unread, *problems])


def write_report(
    results: Path, out: Path, open_data: "OpenData | None", registry: "Registry"
) -> list[str]:
    """Write the report of a folder and name its path; returns a sentence per unreadable file.

    open_data: opens the images of a result; None for a report without images.
    """
    from g2dbench.reporting.html.page import render
    from g2dbench.reporting.html.report import build_report
    from g2dbench.reporting.stored_results import read_results
    from g2dbench.system.files import replace_file

    stored, problems = read_results(results)
    page = build_report(
        stored,
        registry,
        open_data=open_data,
        problems=problems,
        progress=track,
    )
    text = render(page)
    replace_file(out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    console.print(
        f"reported {counted(len(stored), 'result')}: wrote {out} ({len(text) / 2**20:.1f} MiB)",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if page.pictures:
        console.print(
            f"it contains {counted(len(page.pictures), 'image')} of the test set: --no-images "
            "leaves them out",
            soft_wrap=True,
        )
    return problems
