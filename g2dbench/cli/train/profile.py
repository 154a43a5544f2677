"""`g2dbench profile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from g2dbench.cli.console import console, track
from g2dbench.cli.options import Device, Plugins, Precision, Recipes
from g2dbench.cli.panels import TRAIN

if TYPE_CHECKING:
    from g2dbench.training.step_cost import Cost

DEFAULT_RECIPES = ["g2d-tiny", "convirt-tiny"]
EPILOG = """Examples:

g2dbench profile

g2dbench profile --recipe g2d-paper --random-weights --batch-size 8 --json costs.json
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=TRAIN)(profile)


def profile(
    recipe: Recipes = DEFAULT_RECIPES,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Pairs per step.", show_default="the recipe's")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=32, help="Image side in pixels.", show_default="the recipe's")
    ] = None,
    report_length: Annotated[
        int | None,
        typer.Option(min=3, help="Tokens per report.", show_default="the recipe's longest"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps, after one warm-up step.")] = 5,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Build published encoders with random weights: nothing is downloaded.",
        ),
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Also write the measurements to this file.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    plugin: Plugins = None,
) -> None:
    """Measure the cost of training: weights, FLOPs, images/s, memory, with and without decoder."""
    from g2dbench.system.device import choose_device, choose_precision
    from g2dbench.training import step_cost

    chosen = choose_device(device)
    workload = step_cost.Workload(
        batch_size=batch_size,
        image_size=image_size,
        report_length=report_length,
        steps=steps,
        random_weights=random_weights,
        device=str(chosen),
        precision=choose_precision(precision, chosen),
        plugins=tuple(plugin or ()),
    )
    jobs = step_cost.make_jobs(recipe, workload)
    costs = [step_cost.measure(job) for job in track(jobs, "measuring")]
    console.print(_table(costs))
    for sentence in step_cost.compare_variants(costs):
        console.print(sentence)
    if json is not None:
        step_cost.save(costs, json)


def _table(costs: "list[Cost]") -> Table:
    first = costs[0]
    table = Table(
        padding=(0, 1, 0, 0),
        caption=f"{first.hardware}, {first.precision}",
        caption_justify="left",
    )
    table.add_column("recipe", overflow="fold", style="bold")
    table.add_column("trains", overflow="fold")
    for heading in ("batch", "weights", "learn", "GFLOP", "images/s", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cost in costs:
        table.add_row(
            cost.recipe,
            cost.trains,
            f"{cost.batch_size}x{cost.image_size}",
            f"{cost.weights / 1e6:.1f}M",
            f"{cost.learning / 1e6:.1f}M",
            f"{cost.gflop_per_image:.3g}",
            f"{cost.images_per_s:.3g}",
            f"{cost.peak_mib:.0f}",
        )
    return table
