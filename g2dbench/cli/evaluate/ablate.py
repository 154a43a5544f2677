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
from g2dbench.cli.options import (
    DEFAULT_SEEDS,
    DEFAULT_STORE,
    Changes,
    Data,
    Device,
    Fraction,
    Out,
    Plugins,
    Precision,
    Protocol,
    Recipe,
    Root,
    Seeds,
    Store,
    Tasks,
)
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import Misuse
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.ablation.run import ArmResult
    from g2dbench.recipes.study import Study

DEFAULT_TASKS = ["seg"]
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
    recipe: Recipe = "g2d-tiny",
    data: Data = "synthetic",
    root: Root = None,
    test_data: Annotated[
        str | None, typer.Option(help="Data set to evaluate on.", show_default="--data")
    ] = None,
    test_root: Annotated[
        Path | None, typer.Option(help="Folder of the data set to evaluate on.")
    ] = None,
    task: Tasks = DEFAULT_TASKS,
    protocol: Protocol = "small",
    fraction: Fraction = 0.01,
    seed: Seeds = DEFAULT_SEEDS,
    arm: Annotated[
        list[str] | None, typer.Option(help='Additional arm, "NAME: KEY=VALUE ...". Repeats.')
    ] = None,
    set_: Changes = None,
    out: Out = Path("ablation"),
    device: Device = "auto",
    precision: Precision = "auto",
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Train the arms of an ablation, evaluate them, and compare each with the reference arm.

    --data is used for pre-training, and --recipe and --set apply to every arm. A task without the
    given --protocol uses its default. The same command resumes after a stop. The table also
    contains the results of the paper.
    """
    from g2dbench.ablation import run, studies
    from g2dbench.evaluation.sweep import grid
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
            f"recipe {recipe!r} trains {base.method!r}, but {chosen.name!r} is a study of "
            f"{method}: choose a recipe of {method} (`g2dbench list recipes`)"
        )
    studies.arm_recipes(chosen, base)
    grid.check_writable(out)
    tasks = tuple(grid.load_tasks(task, registry))
    trained = open_data(data, root, store, base.data.size, registry)
    tested = (
        trained
        if test_data is None
        else open_data(test_data, test_root, store, base.data.size, registry)
    )
    settings = run.StudySettings(
        recipe=base,
        train=trained,
        test=tested,
        tasks=tasks,
        fraction=fraction,
        protocol=protocol,
        seeds=tuple(grid.check_seeds(seed)),
        out=out,
        machine=Machine.choose(device, precision, progress=track),
    )
    outcomes = []
    for each, outcome in run.run(chosen, settings, registry):
        outcomes.append((each, outcome))
        score, cell = outcome.result.main, outcome.result.cell
        value = outcome.result.status if score is None else f"{score.value:.3f}"
        name = f"{each.name}, seed {cell.model_seed}: {cell.task}:{cell.protocol}"
        console.print(escape(f"{name} {value}"))
    show(chosen, run.arm_results(chosen, outcomes, registry), len(settings.seeds))
    console.print(f"wrote runs and results to {out}")


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
        task_rows = [row for row in rows if row.task == task]
        table = Table(title=f"{study.name}: {task} {task_rows[0].metric}", title_justify="left")
        table.add_column("arm", overflow="fold")
        for heading in ("ours", "paper", "difference", "p", "p seeds"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in task_rows:
            table.add_row(*_cells(row))
        console.print(table)
    console.print(
        f"Per cent, mean of {counted(seeds, 'seed')} ± standard deviation. "
        f"Difference from {study.arms[0].name!r} with its 95 % confidence interval over patients; "
        "p: paired bootstrap over patients, Holm-corrected over the arms; p seeds: paired t-test "
        "over seeds. The paper used other data and larger models: compare ranks, not values."
    )


def _cells(row: "ArmResult") -> list[str]:
    ours = f"{row.mean * 100:.1f}" + ("" if math.isnan(row.spread) else f"±{row.spread * 100:.1f}")
    published = "\n".join(row.published) or "-"
    comparison = row.comparison
    if comparison is None:
        return [row.arm.name, ours, published, "reference", "", ""]
    limits = f"{comparison.low * 100:+.1f}…{comparison.high * 100:+.1f}"
    p_seeds = "-" if math.isnan(comparison.p_seeds) else f"{comparison.p_seeds:.3f}"
    return [
        row.arm.name,
        ours,
        published,
        f"{comparison.value * 100:+.1f}\n{limits}",
        f"{row.p_adjusted:.3f}",
        p_seeds,
    ]
