"""`g2dbench import`: predictions that were made elsewhere, as results."""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.console import console
from g2dbench.cli.open_data import check_name, open_data
from g2dbench.cli.options import (
    DEFAULT_STORE,
    Data,
    Fraction,
    Limit,
    Out,
    Plugins,
    Root,
    Seed,
    Size,
    Store,
    TaskProtocol,
)
from g2dbench.cli.panels import EVALUATE

EPILOG = """Files, for all test images of the prepared data set:

zeroshot, cls, finetune: a CSV with the columns id, finding, score, or id and one column per finding

seg: a CSV with the columns id, finding, and counts (COCO's run lengths, as numbers or compressed)
or mask (path of a PNG); or a folder of PNGs, FINDING/ID.png, or ID.png for a single finding

det: COCO's results as JSON: image_id, bbox, score, category_id

Example: g2dbench import predictions.csv --task zeroshot --data rsna@mgca --model their-model

`g2dbench data export` and the table of the prepared data set have the ids. The result is marked as
imported; --fraction and --seed state how the model was trained, which cannot be checked.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog=EPILOG, rich_help_panel=EVALUATE)(import_file)


def import_file(
    file: Annotated[
        Path,
        typer.Argument(help="The predictions: a file, or a folder.", show_default=False),
    ],
    task: Annotated[str, typer.Option(help="The task that they are for.", show_default=False)],
    model: Annotated[str, typer.Option(help="The model's name in tables.", show_default=False)],
    data: Data = "synthetic",
    protocol: TaskProtocol = None,
    fraction: Fraction = 1.0,
    seed: Seed = 0,
    subset_seed: Annotated[int, typer.Option(min=0, help="Seed that sampled the fraction.")] = 0,
    limit: Limit = None,
    out: Out = Path("results"),
    root: Root = None,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Score predictions that were made elsewhere, and store them as a result."""
    from g2dbench.errors import Misuse
    from g2dbench.evaluation.cell_spec import CellSpec
    from g2dbench.evaluation.imported.imported_cell import import_cell
    from g2dbench.evaluation.sweep.grid import check_writable
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.registry import Registry
    from g2dbench.task import check_fraction, protocol_of

    registry = Registry(plugin or ())
    bench = Workbench(registry)
    chosen = bench.task(task)
    check_name(data, store, registry)
    if not file.exists():
        raise Misuse(f"there is no file or folder {file}")
    if not model.strip() or not model.isprintable():
        raise Misuse("--model is the model's name in tables: printable text")
    check_writable(out)
    spec = CellSpec(
        model=model,
        task=task,
        data=data,
        protocol=protocol_of(chosen, protocol)[0],
        fraction=check_fraction(fraction),
        seed=seed,
        subset_seed=subset_seed,
        limit=limit,
    )
    found = import_cell(file, spec, chosen, open_data(data, root, store, size, registry), out)
    score = found.result.main
    assert score is not None
    text = f"{model} {task} {data}: {found.result.metric} {score.value:.3f} " + (
        f"[{score.low:.3f}, {score.high:.3f}], {found.result.counts['test']} test images"
    )
    state = "was imported before" if found.reused else "imported"
    console.print(f"{text}; {state}: {found.folder}", soft_wrap=True, markup=False)
