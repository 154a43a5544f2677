"""`g2dbench profile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from g2dbench.cli.console import console, track
from g2dbench.cli.options import Device, OptionalRecipes, Plugins, Precision, ProfiledModels
from g2dbench.cli.panels import TRAIN
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.evaluation.forward_cost import ForwardCost
    from g2dbench.training.step_cost import Cost

DEFAULT_RECIPES = ["g2d-tiny", "convirt-tiny"]
DEFAULT_BATCH = 16
"""Images of a forward pass of `--model`."""
EPILOG = """Examples:

g2dbench profile

g2dbench profile --model random-init --model runs/g2d-tiny-s0

g2dbench profile --recipe g2d-paper --random-weights --batch-size 8 --json costs.json
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=TRAIN)(profile)


def profile(
    recipe: OptionalRecipes = None,
    model: ProfiledModels = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pairs per step; with --model images per pass.",
            show_default="the recipe's; with --model 16",
        ),
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
    """Measure the cost of training, or of a model's forward pass: weights, FLOPs, images/s, memory.

    With --model it is the forward pass of that model, with and without texts.
    """
    if model:
        if recipe or image_size or report_length or random_weights:
            raise Misuse(
                "--model measures a model as it is: --recipe, --image-size, --report-length and "
                "--random-weights belong to the cost of training"
            )
        _profile_models(model, batch_size or DEFAULT_BATCH, steps, device, precision, plugin, json)
        return
    from g2dbench.system.device import choose_device, choose_precision
    from g2dbench.training import step_cost

    if batch_size == 1:
        raise Misuse("--batch-size 1: a training step needs at least 2 pairs")
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
    jobs = step_cost.make_jobs(recipe or DEFAULT_RECIPES, workload)
    costs = [step_cost.measure(job) for job in track(jobs, "measuring")]
    console.print(_table(costs))
    for sentence in step_cost.compare_variants(costs):
        console.print(sentence)
    if json is not None:
        step_cost.save(costs, json)


def _profile_models(
    models: list[str],
    batch_size: int,
    steps: int,
    device: str,
    precision: str,
    plugins: list[Path] | None,
    json: Path | None,
) -> None:
    """Measure each model alone, so that two are never in memory; print and write the table."""
    from g2dbench.evaluation import forward_cost
    from g2dbench.evaluation.model_reference import resolve
    from g2dbench.registry import Registry
    from g2dbench.system.machine import Machine

    registry = Registry(plugins or ())
    references = [resolve(text, registry) for text in dict.fromkeys(models)]
    machine = Machine.choose(device, precision, batch_size=batch_size)
    costs = [
        forward_cost.measure(reference.load(registry, 0), machine, batch_size, steps)
        for reference in track(references, "measuring")
    ]
    console.print(_model_table(costs))
    if json is not None:
        forward_cost.save(costs, json)


def _model_table(costs: "list[ForwardCost]") -> Table:
    first = costs[0]
    table = Table(
        padding=(0, 1, 0, 0),
        caption=f"forward pass, {first.hardware}, {first.precision}",
        caption_justify="left",
    )
    table.add_column("model", overflow="fold", style="bold")
    for heading in ("batch", "weights", "GFLOP", "images/s", "texts/s", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cost in costs:
        table.add_row(
            cost.model,
            f"{cost.batch_size}x{cost.image_size}",
            f"{cost.weights / 1e6:.1f}M",
            f"{cost.gflop_per_image:.3g}",
            f"{cost.images_per_s:.3g}",
            f"{cost.texts_per_s:.3g}" if cost.texts_per_s else "-",
            f"{cost.peak_mib:.0f}",
        )
    return table


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
