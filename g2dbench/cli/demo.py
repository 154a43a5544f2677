"""`g2dbench demo`: the whole path on the embedded radiographs."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from g2dbench.cli.console import console, track
from g2dbench.cli.eval import report
from g2dbench.cli.open_data import open_data
from g2dbench.cli.options import DEFAULT_STORE, Store
from g2dbench.cli.panels import START

if TYPE_CHECKING:
    from g2dbench.dataset import Dataset
    from g2dbench.registry import Registry

METHODS = ("convirt", "g2d")
"""In the order of training: the newest run, which `eval` takes unless told otherwise, is G2D's."""

FILMS, FILM_SEED, FILM_SIZE = 700, 1, 256
"""Radiographs written out as an RSNA folder of DICOMs, from other patients than `synthetic`."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=START)(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path(
        "demo"
    ),
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of training and of heads. Repeats.")
    ] = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Train G2D and ConVIRT on synthetic radiographs, evaluate them on all five tasks, rank them.

    Needs no data and no network. Running it again goes on where it stopped.
    """
    from g2dbench.evaluation import grid as sweep
    from g2dbench.registry import Registry

    sweep.check_writable(out)
    registry = Registry()
    seeds = sweep.check_seeds(seed or [0])
    console.rule("1/4 drawing radiographs and reports")
    drawn = open_data("synthetic", None, store, None, registry)
    console.print(f"{len(drawn)} images at {drawn.size} px in {drawn.folder}")
    films = _films(out / "data" / "rsna", out / "prepared", registry)
    console.rule("2/4 pre-training")
    runs = {
        each: [_train(m, drawn, out / "runs", each, registry) for m in METHODS] for each in seeds
    }
    console.rule("3/4 evaluating")
    for each, folders in runs.items():
        _evaluate(each, folders, drawn, films, out / "results", registry)
    console.rule("4/4 leaderboard")
    _rank(out / "results", registry)
    newest = runs[seeds[-1]][-1]
    console.print(f"see what it learned: g2dbench figure {newest} --data synthetic", soft_wrap=True)


def _films(root: Path, store: Path, registry: "Registry") -> "Dataset":
    """Other drawn radiographs, written as RSNA distributes its own and read by its reader."""
    from g2dbench.data.synthetic import official_layouts
    from g2dbench.system.worker_pool import default_workers

    if not (root / "stage_2_detailed_class_info.csv").is_file():
        partial = root.with_name(".rsna.partial")
        shutil.rmtree(partial, ignore_errors=True)
        official_layouts.write_rsna(
            partial, range(FILMS), FILM_SIZE, FILM_SEED, workers=default_workers()
        )
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
    data = open_data("rsna", root, store, FILM_SIZE, registry)
    # What is drawn must never stand under a real data set's name in a leaderboard.
    data = data.named("synthetic-rsna")
    console.print(f"{len(data)} DICOMs in RSNA's layout in {root}, read by the rsna reader")
    return data


def _train(method: str, data: "Dataset", runs: Path, seed: int, registry: "Registry") -> Path:
    from g2dbench.recipes import recipe as recipes
    from g2dbench.runs.folder import RUN_FILE, read_info
    from g2dbench.system.machine import Machine
    from g2dbench.training import fit

    recipe = recipes.load(f"{method}-tiny")
    folder = runs / f"{recipe.name}-s{seed}"
    started = (folder / RUN_FILE).is_file()
    if started and read_info(folder).status == "complete":
        console.print(f"{folder} is trained already")
        return folder
    fit.fit(
        recipe,
        data,
        folder,
        seed=seed,
        machine=Machine.choose(progress=track),
        resume=started,
        registry=registry,
        echo=console.print,
    )
    return folder


def _evaluate(
    seed: int,
    runs: list[Path],
    drawn: "Dataset",
    films: "Dataset",
    out: Path,
    registry: "Registry",
) -> None:
    from g2dbench.evaluation import grid as sweep
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.system.machine import Machine

    machine = Machine.choose(precision="fp32", progress=track)
    bench = Workbench(registry, {"synthetic": drawn, "synthetic-rsna": films})
    for tasks, data, fraction, protocol in (
        (["cls", "zeroshot", "ground"], "synthetic", 0.01, None),
        (["seg"], "synthetic", 0.01, "small"),
        (["det"], "synthetic-rsna", 1.0, None),
    ):
        grid = sweep.Grid(
            models=[*map(str, runs), "random-init"],
            datasets=[data],
            tasks=tasks,
            fractions=[fraction],
            seeds=[seed],
            protocol=protocol,
        )
        report(sweep.run(grid.cells(bench), bench, machine, out), out)


def _rank(results: Path, registry: "Registry") -> None:
    from g2dbench.reporting import leaderboard_formats
    from g2dbench.reporting.leaderboard import build_leaderboard
    from g2dbench.result import load_all

    board = build_leaderboard(load_all(results), registry.task_order())
    leaderboard_formats.show(board, console, reasons=False)
    console.print(
        f"predictions and scores are in {results}; again: g2dbench leaderboard {results}",
        soft_wrap=True,
    )
