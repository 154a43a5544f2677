"""`g2dbench align`: how alike two models' features are."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from g2dbench.cli.console import console, track
from g2dbench.cli.open_data import check_name, open_data
from g2dbench.cli.options import (
    DEFAULT_FEATURE_CACHE,
    DEFAULT_STORE,
    Data,
    Device,
    FeatureCache,
    Limit,
    Plugins,
    Precision,
    Root,
    Seed,
    Size,
    Store,
)
from g2dbench.cli.panels import COMPARE

if TYPE_CHECKING:
    from g2dbench.evaluation.feature_alignment import Alignment, EncodedImages

_SENTENCES = {
    "same weights": "One model: the weights and the features are the same.",
    "same features": "One model: the features are the same, though the weights differ in form.",
    "same geometry": "One model, or nearly: the features differ by rotation and scale alone.",
    "different": "Two models.",
}

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME, NAME:SOURCE, run folder or weights file.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "g2dbench align runs/g2d-tiny-s0 runs/g2d-tiny-s1 --data synthetic"
    app.command(epilog=f"Example: {example}", rich_help_panel=COMPARE)(align)


def align(
    first: ModelArgument,
    second: ModelArgument,
    data: Data = "synthetic",
    root: Root = None,
    limit: Limit = None,
    seed: Seed = 0,
    feature_cache: FeatureCache = DEFAULT_FEATURE_CACHE,
    device: Device = "auto",
    precision: Precision = "fp32",
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Compare the features of two models on test images: CKA and mutual nearest neighbors."""
    from g2dbench.evaluation import feature_alignment
    from g2dbench.evaluation.model_reference import resolve
    from g2dbench.registry import Registry
    from g2dbench.system.machine import FeatureFolder, Machine
    from g2dbench.task import Run

    registry = Registry(plugin or ())
    check_name(data, store, registry)
    references = [resolve(text, registry) for text in (first, second)]
    machine = Machine.choose(
        device, precision, progress=track, features=FeatureFolder(feature_cache.expanduser())
    )
    opened = open_data(data, root, store, size, registry)
    test = opened.split("test")
    test = test.take(range(min(limit or len(test), len(test))))
    nothing = test.take([])
    run = Run(train=nothing, valid=nothing, test=test, protocol=None, machine=machine, seed=seed)
    encoded = [
        feature_alignment.encode_images(reference.load(registry, seed), run)
        for reference in references
    ]
    found = feature_alignment.align(encoded[0], encoded[1], test)
    for each in encoded:
        console.print(_model_line(each), soft_wrap=True, markup=False)
    console.print(_table(found))
    console.print(_SENTENCES[found.verdict])


def _model_line(encoded: "EncodedImages") -> str:
    identity, width = encoded.model.identity, encoded.features.shape[1]
    return f"{identity.source}: {identity.label}, {encoded.output} features of width {width}"


def _table(found: "Alignment") -> Table:
    table = Table(padding=(0, 1, 0, 0))
    table.add_column("measure")
    for heading in ("value", "95 % interval", "images"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in found.scores.items():
        interval = "-" if score.low != score.low else f"[{score.low:.3f}, {score.high:.3f}]"
        table.add_row(name, f"{score.value:.4f}", escape(interval), str(score.n))
    return table
