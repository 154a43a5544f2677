"""`g2dbench eval`."""

import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from g2dbench.cli.console import console, track
from g2dbench.cli.open_data import check_name, open_data
from g2dbench.cli.options import (
    DEFAULT_FEATURE_CACHE,
    DEFAULT_STORE,
    Device,
    FeatureCache,
    Plugins,
    Precision,
    Root,
    Size,
    Store,
)
from g2dbench.cli.panels import EVALUATE
from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.evaluation.runner import Outcome
    from g2dbench.result import Result

EPILOG = """Examples:

g2dbench eval --task seg --fraction 0.01

g2dbench eval --task seg --task cls --fraction 0.01 --fraction 0.1 --seed 0 --seed 1

g2dbench eval --task ground --model runs/g2d-tiny-s0 --model biovil:~/weights/biovil

g2dbench eval --task det --data rsna --root ~/rsna --model random-init --limit 100

--task, --model, --data, --fraction and --seed repeat to make a grid; cells that are on disk are not
run again.

Exit code: 0 where every cell that the models are able to do is done; 1 where a cell failed, or none
is done; 2 where the request is wrong. A cell is unsupported where the model lacks what the task
needs, or the data set lacks the annotation.
"""
RUNS = Path("runs")


class Draw(StrEnum):
    """The policies of `data/splits/fractions.py`."""

    covering = "covering"
    stratified = "stratified"
    random = "random"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", epilog=EPILOG, rich_help_panel=EVALUATE)(evaluate)


def evaluate(
    task: Annotated[list[str], typer.Option(help="Task; `g2dbench list tasks`. Repeats.")],
    fraction: Annotated[
        list[float] | None,
        typer.Option(help="Share of the training patients, in (0, 1]. Repeats.", show_default="1"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME, NAME:SOURCE, run folder or weights file. Repeats.",
            show_default="the newest run in runs/",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Data set; `g2dbench list data`. Repeats.", show_default="synthetic"),
    ] = None,
    root: Root = None,
    protocol: Annotated[
        str | None, typer.Option(help="Protocol of the tasks.", show_default="the task's first")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of heads and shuffling. Repeats.")
    ] = None,
    subset_seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Seed that samples the fraction. Repeats.")
    ] = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Positive patients of each finding, not a fraction. Repeats."),
    ] = None,
    draw: Annotated[
        Draw, typer.Option(help="How patients are sampled: `docs/protocols.md`.")
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
    limit: Annotated[int | None, typer.Option(min=1, help="At most N test images.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("results"),
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Evaluate cells again that are on disk.")
    ] = False,
    save_heads: Annotated[
        bool, typer.Option("--save-heads", help="Store fitted heads, for `g2dbench predict`.")
    ] = False,
    feature_cache: FeatureCache = DEFAULT_FEATURE_CACHE,
    feature_cache_gb: Annotated[
        float, typer.Option(min=0, help="Limit of the feature cache; 0 does not use it.")
    ] = 20,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Speed only; scores do not change.")] = 32,
    size: Size = None,
    store: Store = DEFAULT_STORE,
    plugin: Plugins = None,
) -> None:
    """Evaluate models on tasks: predict, store the predictions, score, write a result per cell."""
    from g2dbench.evaluation import grid, model_reference
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.registry import Registry
    from g2dbench.system.machine import FeatureFolder, Machine

    registry = Registry(plugin or ())
    names = list(dict.fromkeys(data or ["synthetic"]))
    for name in names:
        check_name(name, store, registry)
    grid.load_tasks(task, registry)
    grid.check_writable(out)
    features = FeatureFolder(feature_cache.expanduser(), int(feature_cache_gb * 1e9))
    machine = Machine.choose(
        device,
        precision,
        batch_size=batch_size,
        progress=track,
        features=features if features.limit else None,
    )
    asked = grid.Grid(
        models=list(dict.fromkeys(model or [_newest_run()])),
        datasets=names,
        tasks=task,
        fractions=fraction or [1.0],
        seeds=seed or [0],
        protocol=protocol,
        subset_seeds=subset_seed or [0],
        shots=shots or [],
        draw=draw.value,
        validation="budget" if val_budget else "full",
        limit=limit,
        prompts=prompts,
        prompt_sensitivity=prompt_sensitivity,
        precision=machine.precision,
        store=store,
        size=size,
        plugins=plugin or (),
    )
    bench = Workbench(registry)
    cells = asked.cells(bench)
    shared = model_reference.same_names([bench.reference(text) for text in asked.models])
    for label in shared:
        console.print(
            f"several models have the same name, {escape(label)}: the digest of its weights is "
            "added to each"
        )
    for name in names:
        bench.add_dataset(name, open_data(name, root, store, size, registry))
    report(grid.run(cells, bench, machine, out, rerun, save_heads), out, shared)


def report(outcomes: Iterable["Outcome"], out: Path, shared: Sequence[str] = ()) -> None:
    """Print a line per finished cell, then the counts by status; `EPILOG` states the exit codes.

    shared: labels that are known to stand for several models.
    """
    from g2dbench.reporting import model_names

    began, kept = time.perf_counter(), 0
    count = dict.fromkeys(("done", "unsupported", "failed"), 0)
    results: list[Result] = []
    for outcome in outcomes:
        results.append(outcome.result)
        name = model_names.names(results, shared).of(outcome.result)
        console.print(_line(outcome, name), soft_wrap=True)
        count[outcome.result.status] += 1
        kept += outcome.reused
    for note in model_names.names(results).notes():
        console.print(escape(note), soft_wrap=True)
    seconds = time.perf_counter() - began
    done, unsupported, failed = count.values()
    console.print(
        f"{done} cells done ({kept} were on disk), {unsupported} unsupported, {failed} failed, "
        f"{seconds:.0f} s: wrote {out}",
        soft_wrap=True,
    )
    if failed or not done:
        raise typer.Exit(1)


def _line(outcome: "Outcome", model: str) -> str:
    from g2dbench.reporting.model_names import seeds_of

    cell, result = outcome.result.cell, outcome.result
    share = "zero-shot" if cell.fraction == 0 else f"{cell.fraction * 100:g}%"
    if cell.shots is not None:
        share = f"{cell.shots}-shot"
    name = f"{model} {cell.task}:{cell.protocol} {cell.data} {share} {seeds_of(cell)}"
    if result.status != "done" or result.main is None:
        return f"{escape(name)}  [yellow]{result.status}[/]: {escape(result.reason or '')}"
    score = result.main
    mark = "  [dim](on disk)[/]" if outcome.reused else f"  {result.provenance.seconds:.1f} s"
    limits = escape(f"[{score.low:.3f}, {score.high:.3f}]")
    return f"{escape(name)}  {result.metric} [bold]{score.value:.3f}[/] {limits}{mark}"


def _newest_run() -> str:
    from g2dbench.runs.folder import all_runs, newest_run

    found = newest_run(RUNS)
    if found is None:
        raise Misuse(
            "there is no run in runs/ that is finished: run `g2dbench pretrain` first, or say "
            "--model RUN_FOLDER (the demo's are in demo/runs/) or --model NAME (`g2dbench list "
            "models`)"
        )
    finished = sum(info.status == "complete" for _, info in all_runs(RUNS))
    choice = f" (of {finished} in {RUNS}/; --model takes another)" if finished > 1 else ""
    console.print(f"evaluating the newest run, {found}{choice}", soft_wrap=True)
    return str(found)
