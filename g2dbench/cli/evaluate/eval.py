"""`g2dbench eval`."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from g2dbench.cli.console import console, track
from g2dbench.cli.evaluate.cell_report import report
from g2dbench.cli.open_data import check_name, open_data
from g2dbench.cli.open_results import open_output
from g2dbench.cli.options import (
    DEFAULT_DATA,
    DEFAULT_FEATURE_CACHE,
    DEFAULT_FRACTIONS,
    DEFAULT_SEEDS,
    DEFAULT_STORE,
    Device,
    EvaluationBatch,
    FeatureCache,
    FeatureCacheGb,
    Limit,
    Models,
    OptionalDataList,
    OptionalFractions,
    OptionalTasks,
    Out,
    Plugins,
    Precision,
    Rerun,
    Root,
    SaveHeads,
    Seeds,
    Size,
    Store,
    SubsetSeeds,
    TaskProtocol,
)
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import BadData, Misuse

if TYPE_CHECKING:
    from g2dbench.evaluation.cell_spec import CellSpec
    from g2dbench.evaluation.sweep.grid import Grid
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.system.machine import FeatureFolder

EPILOG = """Examples:

g2dbench eval --task seg --fraction 0.01

g2dbench eval --task seg --task cls --fraction 0.01 --fraction 0.1 --seed 0 --seed 1

g2dbench eval --suite paper --data synthetic --limit 200

g2dbench eval --task ground --model runs/g2d-tiny-s0 --model biovil:~/weights/biovil

g2dbench eval --task cls --protocol sweep --set uncertain=zeros

g2dbench eval --task cls --model g2d:a.pth --label first --model g2d:b.pth --label second

g2dbench eval --task det --data rsna --root ~/rsna --model random-init --limit 100

--task, --model, --data, --fraction and --seed can be repeated to make a grid. Cells on disk are not
evaluated again.

Exit code: 0 if no cell failed and at least one is done; 1 if a cell failed or none is done; 2 if
the request is wrong. A cell is unsupported if the model does not have a capability that the task
needs, or the data set does not have the annotations.
"""


class Draw(StrEnum):
    """The policies of `data/splits/fractions.py`."""

    covering = "covering"
    stratified = "stratified"
    random = "random"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", epilog=EPILOG, rich_help_panel=EVALUATE)(evaluate)


def evaluate(
    task: OptionalTasks = None,
    suite: Annotated[
        str | None, typer.Option(help="Evaluate a suite: `g2dbench suite`, or a TOML file.")
    ] = None,
    fraction: OptionalFractions = None,
    model: Models = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="Row of the leaderboard, one for each --model in the same order. Repeats.",
            show_default="the model's own",
        ),
    ] = None,
    data: OptionalDataList = None,
    root: Root = None,
    protocol: TaskProtocol = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Change a setting of the protocol. Repeats."
        ),
    ] = None,
    seed: Seeds = DEFAULT_SEEDS,
    subset_seed: SubsetSeeds = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Positive patients of each finding, not a fraction. Repeats."),
    ] = None,
    draw: Annotated[
        Draw, typer.Option(help="How patients are sampled: docs/tasks/subsets.md.")
    ] = Draw.covering,
    val_budget: Annotated[
        bool, typer.Option("--val-budget", help="Sample the validation patients likewise.")
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(help="TOML file with your text prompts: docs/tasks/zeroshot.md."),
    ] = None,
    prompt_sensitivity: Annotated[
        bool,
        typer.Option("--prompt-sensitivity", help="Also report the spread over paraphrases."),
    ] = False,
    limit: Limit = None,
    out: Out = Path("results"),
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
    """Evaluate models on tasks: predict, store the predictions, score, write a result per cell."""
    from g2dbench.evaluation.sweep import grid
    from g2dbench.evaluation.sweep.engine import InProcess, outcomes
    from g2dbench.evaluation.sweep.job import JobSettings
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.registry import Registry
    from g2dbench.system.machine import MachineRequest

    registry = Registry(plugin or ())
    names = list(dict.fromkeys(data or ([] if suite else DEFAULT_DATA)))
    for name in names:
        check_name(name, store, registry)
    if not (task or suite):
        raise Misuse("say what to evaluate: --task NAME (`g2dbench list tasks`) or --suite NAME")
    if fraction and shots:
        raise Misuse("--fraction and --shots both name the training subset: give one of them")
    grid.load_tasks(task or (), registry)
    folder, remote = open_output(out)
    features = feature_folder(feature_cache, feature_cache_gb)
    machine = MachineRequest(
        device=device, precision=precision, batch_size=batch_size, features=features
    )
    models = list(dict.fromkeys(model or [newest_run_name()]))
    requested = grid.Grid(
        models=models,
        labels=grid.label_models(models, labels or ()),
        datasets=names,
        tasks=task or (),
        fractions=fraction or DEFAULT_FRACTIONS,
        seeds=seed,
        protocol=protocol,
        changes=set_ or [],
        subset_seeds=subset_seed or [0],
        shots=shots or [],
        draw=draw.value,
        validation="budget" if val_budget else "full",
        limit=limit,
        prompts=prompts,
        prompt_sensitivity=prompt_sensitivity,
        precision=machine.choose().precision,
        store=store,
        size=size,
        plugins=plugin or (),
    )
    if suite and protocol:
        raise Misuse("--protocol and --suite exclude each other: a suite names its protocols")
    bench = Workbench(registry)
    cells = [] if suite else requested.cells(bench)
    for name in names:
        bench.add_dataset(name, open_data(name, root, store, size, registry))
    if suite:
        cells = _suite_cells(suite, requested, bench, fraction or ())
    shared = _shared_names(requested, bench)
    settings = JobSettings(
        machine=machine, out=folder, rerun=rerun, save_heads=save_heads, remote=remote
    )
    events = InProcess(bench, settings, track).run(cells)
    report(outcomes(events), remote or str(out), shared)


def _shared_names(requested: "Grid", bench: "Workbench") -> Sequence[str]:
    """The labels that several models have; prints that digests tell these apart."""
    from g2dbench.evaluation.model_reference import same_names

    unlabeled = [text for text in requested.models if text not in requested.labels]
    shared = same_names([bench.reference(text) for text in unlabeled])
    for label in shared:
        note = f"several models have the same name, {label}: the digest of its weights is added"
        console.print(escape(f"{note} to each"), soft_wrap=True)
    return shared


def _suite_cells(
    suite: str, template: "Grid", bench: "Workbench", fractions: Sequence[float]
) -> "list[CellSpec]":
    """The cells of a suite; prints what is skipped."""
    from g2dbench.cli.evaluate.suite import print_skipped
    from g2dbench.evaluation.planning.suite import read_suite, suite_cells

    cells, skipped = suite_cells(
        read_suite(suite),
        template,
        bench,
        data=template.datasets,
        tasks=template.tasks,
        fractions=fractions,
    )
    print_skipped(skipped)
    if not cells:
        raise BadData(f"nothing of the suite {suite} can be evaluated here: see the reasons above")
    return [cell.spec for cell in cells]


def feature_folder(path: Path, gigabytes: float) -> "FeatureFolder | None":
    """The cache of features; None for a limit of 0, which does not use it."""
    from g2dbench.system.machine import FeatureFolder

    limit = int(gigabytes * 1e9)
    return FeatureFolder(path.expanduser(), limit) if limit else None


def newest_run_name() -> str:
    """The folder of the newest run in `runs/`, which it prints; Misuse if there is none."""
    from g2dbench.runs.folder import RUNS, newest_run, scan_runs

    runs, problems = scan_runs(RUNS)
    for problem in problems:
        console.print(f"[yellow]left out: {escape(problem)}[/]", soft_wrap=True)
    newest = newest_run(RUNS)
    if newest is None:
        raise Misuse(
            "runs/ contains no finished run: run `g2dbench pretrain` first, or give "
            "--model RUN_FOLDER (the demo's are in demo/runs/) or --model NAME (`g2dbench list "
            "models`)"
        )
    finished = sum(info.status == "complete" for _, info in runs)
    choice = f" (of {finished} in {RUNS}/; --model chooses another)" if finished > 1 else ""
    console.print(f"evaluating the newest run, {newest}{choice}", soft_wrap=True)
    return str(newest)
