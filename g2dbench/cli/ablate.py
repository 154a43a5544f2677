"""`g2dbench ablate`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from g2dbench.cli.console import console, track
from g2dbench.cli.open_data import open_data
from g2dbench.cli.options import DEFAULT_STORE, Device, Plugins, Precision, Root, Store
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.ablation.run import ArmResult
    from g2dbench.recipes.study import Study

EPILOG = """Examples:

g2dbench ablate decoder --seed 0 --seed 1 --seed 2

g2dbench ablate threshold --task seg --task ground --arm "p95: model.mask.percentile=95"

g2dbench ablate decoder --recipe g2d-small --data open_i --root ~/open_i --test-data siim
--test-root ~/siim --protocol g2d
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=EVALUATE)(ablate)


def ablate(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Study to run; without it, the studies are listed.", show_default=False
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that the arms change.")] = "g2d-tiny",
    data: Annotated[str, typer.Option(help="Data set to pre-train on.")] = "synthetic",
    root: Root = None,
    test_data: Annotated[
        str | None, typer.Option(help="Data set to evaluate on.", show_default="--data")
    ] = None,
    test_root: Annotated[
        Path | None, typer.Option(help="Folder of the data set to evaluate on.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Task. Repeats.", show_default="seg")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Protocol; a task without it uses its default.")
    ] = "small",
    fraction: Annotated[float, typer.Option(help="Share of the training patients.")] = 0.01,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Seed of training and of heads. Repeats.", show_default="0"),
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help='Additional arm, "NAME: KEY=VALUE ...". Repeats.')
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe of all arms: key=value.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for runs and results.")] = Path("ablation"),
    device: Device = "auto",
    precision: Precision = "auto",
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Train the arms of an ablation, evaluate them, and compare each with the reference arm.

    Running it again goes on where it stopped. The paper's numbers stand beside ours.
    """
    from g2dbench.ablation import run, studies
    from g2dbench.evaluation import grid
    from g2dbench.recipes import recipe as recipes
    from g2dbench.registry import Registry
    from g2dbench.system.machine import Machine

    registry = Registry(plugin or ())
    if study is None:
        console.print(_studies([study for _, study in studies.known_studies(registry).values()]))
        return
    method, chosen = studies.find_study(study, registry, arm or [])
    base = recipes.override(recipes.load(recipe), set_ or [])
    if base.method != method:
        raise Misuse(
            f"recipe {recipe!r} trains {base.method!r}, and {chosen.name!r} is a study of {method}:"
            f" choose a recipe of {method} (`g2dbench list recipes`)"
        )
    studies.arm_recipes(chosen, base)
    grid.check_writable(out)
    tasks = tuple(grid.load_tasks(task or ["seg"], registry))
    trained = open_data(data, root, store, base.data.size, registry)
    tested = (
        trained
        if test_data is None
        else open_data(test_data, test_root, store, base.data.size, registry)
    )
    setting = run.StudySettings(
        recipe=base,
        train=trained,
        test=tested,
        tasks=tasks,
        fraction=fraction,
        protocol=protocol,
        seeds=tuple(grid.check_seeds(seed or [0])),
        out=out,
        machine=Machine.choose(device, precision, progress=track),
    )
    outcomes = []
    for each, outcome in run.run(chosen, setting, registry):
        outcomes.append((each, outcome))
        score, cell = outcome.result.main, outcome.result.cell
        found = outcome.result.status if score is None else f"{score.value:.3f}"
        name = f"{each.name}, seed {cell.model_seed}: {cell.task}:{cell.protocol}"
        console.print(escape(f"{name} {found}"))
    show(chosen, run.arm_results(chosen, outcomes, registry), len(setting.seeds))
    console.print(f"runs and results are in {out}")


def _studies(known: "Sequence[Study]") -> Table:
    table = Table(title="studies", title_justify="left")
    for heading in ("study", "question", "paper", "arms"):
        table.add_column(heading, overflow="fold")
    for study in known:
        table.add_row(
            study.name,
            study.question,
            f"table {', '.join(study.tables)}" if study.tables else "-",
            ", ".join(arm.name for arm in study.arms),
        )
    return table


def show(study: "Study", rows: "list[ArmResult]", seeds: int) -> None:
    """Print one table per task, in per cent; each fits 80 columns."""
    for task in dict.fromkeys(row.task for row in rows):
        mine = [row for row in rows if row.task == task]
        table = Table(title=f"{study.name}: {task} {mine[0].metric}", title_justify="left")
        table.add_column("arm", overflow="fold")
        for heading in ("ours", "paper", "difference", "p", "p seeds"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in mine:
            table.add_row(*_cells(row))
        console.print(table)
    console.print(
        f"Per cent, mean of {seeds} seed{'s' if seeds > 1 else ''} ± their standard deviation. "
        f"Difference from {study.arms[0].name!r} with its 95 % interval over patients; p over "
        "patients (paired bootstrap, Holm-corrected over the arms); p seeds: paired t-test over "
        "seeds. The paper's numbers are of other data and scale: compare orders, not values."
    )


def _cells(row: "ArmResult") -> list[str]:
    ours = f"{row.mean * 100:.1f}" + ("" if math.isnan(row.spread) else f"±{row.spread * 100:.1f}")
    printed = "\n".join(row.published) or "-"
    found = row.comparison
    if found is None:
        return [row.arm.name, ours, printed, "reference", "", ""]
    limits = f"{found.low * 100:+.1f}…{found.high * 100:+.1f}"
    p_seeds = "-" if math.isnan(found.p_seeds) else f"{found.p_seeds:.3f}"
    return [
        row.arm.name,
        ours,
        printed,
        f"{found.value * 100:+.1f}\n{limits}",
        f"{row.p_adjusted:.3f}",
        p_seeds,
    ]
