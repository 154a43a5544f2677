"""`g2dbench errors`: the worst misses and false positives of a result."""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.open_data import open_evaluated
from g2dbench.cli.options import DEFAULT_STORE, NoImages, Plugins, Store
from g2dbench.cli.panels import LOOK
from g2dbench.errors import Misuse
from g2dbench.system.counts import counted

EPILOG = """Example: g2dbench errors results/cls/synthetic/g2d-tiny/g2d-f1-m0-s0-1a2b3c4d --finding
nodule --top 20

RESULT is the folder of a cell, or its result.json. The picture shows ground truth and prediction
over each image; it needs the prepared data set in --store, --no-images writes the table alone.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=LOOK)(errors)


def errors(
    result: Annotated[Path, typer.Argument(help="Folder of a cell, or its result.json.")],
    finding: Annotated[
        str | None, typer.Option(help="Only this finding.", show_default="all")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="Number of images of each kind.")] = 20,
    out: Annotated[
        Path, typer.Option(help="CSV file to write; the picture is written beside it.")
    ] = Path("errors.csv"),
    no_images: NoImages = False,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Write the worst misses and false positives of a result as a table and as a picture."""
    from g2dbench.figures import figure
    from g2dbench.figures.overlay import draw_overlays
    from g2dbench.registry import Registry
    from g2dbench.reporting.errors import error_list
    from g2dbench.reporting.errors.case_overlays import Films
    from g2dbench.reporting.stored_results import StoredResult
    from g2dbench.result import RESULT_FILE, load
    from g2dbench.system.files import replace_file

    if out.suffix.lower() != ".csv":
        raise Misuse(f"--out {out}: give the name of a CSV file, such as errors.csv")
    folder = result.parent if result.name == RESULT_FILE else result
    stored = StoredResult(load(folder / RESULT_FILE), folder)
    found = error_list.worst_errors(stored, finding, top)
    text = error_list.to_csv(found.cases)
    replace_file(out, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    kinds = [case.kind for case in found.cases]
    misses, alarms = kinds.count("miss"), kinds.count("false positive")
    numbers = f"{counted(misses, 'miss', 'misses')} and {counted(alarms, 'false positive')}"
    console.print(f"{numbers}: wrote {out}", soft_wrap=True, markup=False)
    if no_images or not found.cases:
        return
    cell = stored.result.cell
    data = open_evaluated(stored, store, Registry(plugin or ()))
    title = f"{cell.model}, {cell.task}:{cell.protocol}, {cell.data}: {numbers}"
    picture = draw_overlays(title, error_list.panels(found, Films(data)))
    figure.save(picture, out.with_suffix(".png"))
    console.print(f"wrote {out.with_suffix('.png')}", soft_wrap=True, markup=False)
