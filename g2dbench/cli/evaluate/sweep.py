"""`g2dbench sweep`: many cells on the cores and GPUs of this machine, on Ray, or on Slurm."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from g2dbench.cli.console import console
from g2dbench.cli.evaluate.cell_report import report
from g2dbench.cli.evaluate.eval import feature_folder, newest_run_name
from g2dbench.cli.evaluate.plan_report import print_cells, print_total
from g2dbench.cli.evaluate.sweep_engine import Engines, make_engine, parse_parameters
from g2dbench.cli.evaluate.sweep_progress import SweepProgress
from g2dbench.cli.open_data import check_name, open_data
from g2dbench.cli.open_results import open_output
from g2dbench.cli.options import (
    DEFAULT_FEATURE_CACHE,
    DEFAULT_STORE,
    Device,
    EvaluationBatch,
    FeatureCache,
    FeatureCacheGb,
    Limit,
    Models,
    OptionalDataList,
    OptionalFractions,
    OptionalProtocols,
    OptionalSeeds,
    OptionalTasks,
    Out,
    PlanOnly,
    Plugins,
    Precision,
    Rerun,
    SaveHeads,
    Size,
    Store,
    SubsetSeeds,
)
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import Misuse
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.evaluation.sweep.plan import GridTable

EPILOG = """Examples:

g2dbench sweep plan.toml --plan

g2dbench sweep plan.toml

g2dbench sweep plan.toml --jobs 2 --model random-init

g2dbench sweep plan.toml --on ray --address auto --out s3://bucket/results

g2dbench sweep plan.toml --on slurm --jobs 50 --slurm slurm_partition=gpu --slurm timeout_min=120

docs/sweeps.md shows how to write a plan. Options such as --model replace the plan's. The same
command goes on after a stop: cells on disk are not evaluated again.

Exit code: as of `g2dbench eval`.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep", epilog=EPILOG, rich_help_panel=EVALUATE)(sweep)


def sweep(
    plan_file: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="TOML file: docs/sweeps.md.")
    ] = None,
    plan: PlanOnly = False,
    on: Annotated[Engines, typer.Option("--on", help="Where the cells run.")] = Engines.local,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cells at the same time.",
            show_default="as many as cores, memory or GPUs allow; slurm: 16",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of each cell; they can change the last bit.")
    ] = 1,
    gpu_share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of a GPU that a cell takes.")
    ] = 1.0,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster: auto or HOST:PORT.", show_default="one on this machine"),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Parameter of submitit. Repeats."),
    ] = None,
    model: Models = None,
    task: OptionalTasks = None,
    data: OptionalDataList = None,
    protocol: OptionalProtocols = None,
    fraction: OptionalFractions = None,
    seed: OptionalSeeds = None,
    subset_seed: SubsetSeeds = None,
    limit: Limit = None,
    out: Out = Path("results"),
    earlier: Annotated[
        list[Path] | None,
        typer.Option(help="Results with timings, besides --out. Repeats."),
    ] = None,
    rerun: Rerun = False,
    save_heads: SaveHeads = False,
    feature_cache: FeatureCache = DEFAULT_FEATURE_CACHE,
    feature_cache_gb: FeatureCacheGb = 20,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: EvaluationBatch = 32,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Evaluate a plan of many cells in parallel: on this machine, a Ray cluster, or Slurm."""
    from g2dbench.evaluation.cell_folder import remove_abandoned
    from g2dbench.evaluation.planning import estimate
    from g2dbench.evaluation.planning.timings import Timings, earlier_results
    from g2dbench.evaluation.sweep.job import JobSettings
    from g2dbench.evaluation.sweep.plan import plan_cells
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.registry import Registry
    from g2dbench.system.machine import MachineRequest
    from g2dbench.system.process_age import process_age

    registry = Registry(plugin or ())
    given = {
        "models": model, "tasks": task, "data": data, "protocols": protocol,
        "fractions": fraction, "seeds": seed, "subset_seeds": subset_seed, "limit": limit,
    }  # fmt: skip
    tables = _read(plan_file, {name: value for name, value in given.items() if value})
    names = dict.fromkeys(name for table in tables for name in table.data)
    for name in names:
        check_name(name, store, registry)
    for place in earlier or ():
        if not place.is_dir():
            raise Misuse(f"there is no results folder {place}: check --earlier")
    folder, remote = open_output(out)
    features = feature_folder(feature_cache, feature_cache_gb)
    machine = MachineRequest(
        device=device, precision=precision, batch_size=batch_size, features=features
    )
    bench = Workbench(registry)
    cells, repeated = plan_cells(
        tables,
        bench,
        precision=machine.precision,
        store=store.resolve(),
        size=size,
        plugins=tuple(path.resolve() for path in plugin or ()),
    )
    for name in names:
        bench.add_dataset(name, open_data(name, None, store, size, registry))
    if repeated:
        console.print(f"{counted(repeated, 'cell')} stand in the plan twice and run once")
    others = [old for place in earlier or () for old in earlier_results(place)]
    timings = Timings(earlier_results(folder), others)
    cached = estimate.cached_features(features)
    estimates = estimate.estimate(cells, bench, timings, cached, rerun)
    settings = JobSettings(
        machine=machine,
        out=folder.resolve(),
        rerun=rerun,
        save_heads=save_heads,
        threads=threads,
        remote=remote,
    )
    need = {each.spec: each.cost.memory for each in estimates if each.cost is not None}
    engine, workers = make_engine(
        on, bench, settings, len(cells), need, jobs, gpu_share, address, parse_parameters(slurm)
    )
    total = estimate.total(estimates, workers, start=process_age())  # a worker imports the same
    if plan:
        print_cells(estimates)
        print_total(total, workers)
        return
    console.print(f"{counted(len(cells), 'cell')} on {counted(workers, 'worker')}", soft_wrap=True)
    remove_abandoned(folder)
    progress = SweepProgress(len(cells), None if total.unknown else total.seconds)
    with closing(engine.run(cells)) as events:
        report(progress.follow(events), remote or str(out))


def _read(plan_file: Path | None, given: dict[str, Any]) -> "list[GridTable]":
    """The plan's grids, or the one of the command line; options replace the plan's fields."""
    from g2dbench.evaluation.sweep.plan import plan_of, read_plan

    if plan_file is not None:
        return read_plan(plan_file, given)
    if "tasks" not in given:
        raise Misuse("say what to evaluate: a plan (docs/sweeps.md), or --task NAME")
    if "models" not in given:
        given["models"] = [newest_run_name()]
    return plan_of({"data": ["synthetic"], **given})
