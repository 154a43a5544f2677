"""`g2dbench demo`: training, evaluation and leaderboard on the synthetic radiographs."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from g2dbench.cli.compare.report import write_report
from g2dbench.cli.compare.results import report_problems
from g2dbench.cli.console import console, track
from g2dbench.cli.evaluate.cell_report import report
from g2dbench.cli.open_data import open_data
from g2dbench.cli.options import DEFAULT_SEEDS, DEFAULT_STORE, Out, Seeds, Store
from g2dbench.cli.panels import START
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.dataset import Dataset
    from g2dbench.registry import Registry
    from g2dbench.reporting.stored_results import StoredResult

METHODS = ("convirt", "g2d")
"""In the order of training. G2D is last, because `eval` takes the newest run by default."""


@dataclass(frozen=True)
class Column:
    """A column of the demo's leaderboard.

    fraction: of the training patients, for the tasks that fit a head or a decoder. protocol: None
    for the task's default. finding: the only one, as in the paper's tables; "" for all.
    """

    task: str
    data: str
    fraction: float = 1.0
    protocol: str | None = None
    finding: str = ""

    @property
    def changes(self) -> tuple[str, ...]:
        """The settings of the protocol that are not its own."""
        return (f'findings=["{self.finding}"]',) if self.finding else ()


COLUMNS = (
    Column("cls", "synthetic", 0.01),
    Column("zeroshot", "synthetic-rsna"),
    Column("seg", "synthetic", 0.02, "small", "cardiomegaly"),
    Column("det", "synthetic", 0.05, finding="cardiomegaly"),
    Column("ground", "synthetic", protocol="contrast", finding="consolidation"),
)
"""The findings of the dense tasks are those that so short a training can learn
(docs/ablation.md)."""

FILMS, FILM_SEED, FILM_SIZE = 700, 1, 256
"""The radiographs that are written as an RSNA folder of DICOMs. Their patients are not those of
`synthetic`."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=START)(demo)


def demo(
    out: Out = Path("demo"),
    seed: Seeds = DEFAULT_SEEDS,
    store: Store = DEFAULT_STORE,
) -> None:
    """Train G2D and ConVIRT on synthetic radiographs, evaluate them on all five tasks, rank them.

    It needs no data and no network. The same command resumes after a stop.
    """
    from g2dbench.evaluation.sweep import grid as sweep
    from g2dbench.registry import Registry

    sweep.check_writable(out)
    registry = Registry()
    seeds = sweep.check_seeds(seed)
    console.rule("1/4 generating radiographs and reports")
    data = open_data("synthetic", None, store, None, registry)
    console.print(f"{counted(len(data), 'image')} at {data.size} px in {data.folder}")
    films = _films(out / "data" / "rsna", out / "prepared", registry)
    console.rule("2/4 pre-training")
    runs = {
        each: [_train(m, data, out / "runs", each, registry) for m in METHODS] for each in seeds
    }
    console.rule("3/4 evaluating")
    for each, folders in runs.items():
        _evaluate(each, folders, data, films, out / "results", registry)
    console.rule("4/4 leaderboard")
    _rank(out / "results", registry)
    _report(out, {"synthetic": data, "synthetic-rsna": films}, registry)
    newest = runs[seeds[-1]][-1]
    console.print(
        f"look at the maps of the model: g2dbench figure maps {newest} --data synthetic",
        soft_wrap=True,
    )


def _films(root: Path, store: Path, registry: "Registry") -> "Dataset":
    """Synthetic radiographs in RSNA's official layout, read by RSNA's reader."""
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
    # Synthetic data must never have the name of a real data set in a leaderboard.
    data = data.named("synthetic-rsna")
    console.print(
        f"{counted(len(data), 'DICOM')} in RSNA's layout in {root}, read by the rsna reader"
    )
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
        console.print(f"{folder} is already trained")
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
    synthetic: "Dataset",
    films: "Dataset",
    out: Path,
    registry: "Registry",
) -> None:
    from g2dbench.evaluation.sweep import grid as sweep
    from g2dbench.evaluation.workbench import Workbench
    from g2dbench.system.machine import Machine

    machine = Machine.choose(precision="fp32", progress=track)
    bench = Workbench(registry, {"synthetic": synthetic, "synthetic-rsna": films})
    for column in COLUMNS:
        grid = sweep.Grid(
            models=[*map(str, runs), "random-init"],
            datasets=[column.data],
            tasks=[column.task],
            fractions=[column.fraction],
            seeds=[seed],
            protocol=column.protocol,
            changes=column.changes,
        )
        report(sweep.run(grid.cells(bench), bench, machine, out), out)


def _report(out: Path, datasets: "dict[str, Dataset]", registry: "Registry") -> None:
    from g2dbench.reporting.errors.case_overlays import check_fingerprint

    def open_data(stored: "StoredResult") -> "Dataset":
        dataset = datasets[stored.result.cell.data]
        check_fingerprint(dataset, stored)
        return dataset

    report_problems(write_report(out / "results", out / "report.html", open_data, registry))


def _rank(results: Path, registry: "Registry") -> None:
    from g2dbench.reporting.leaderboard import terminal
    from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
    from g2dbench.reporting.leaderboard.significance import mark_best
    from g2dbench.reporting.stored_results import read_results

    stored, _ = read_results(results)
    board = build_leaderboard([each.result for each in stored], registry.task_order())
    terminal.show(mark_best(board, stored, registry), console, reasons=False)
    console.print(
        f"predictions and scores are in {results}; print again: g2dbench leaderboard {results}",
        soft_wrap=True,
    )
