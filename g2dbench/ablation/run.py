"""Run a study: arms that differ in one setting, trained with shared seeds and compared.

Arms are trained from one recipe on one data set, evaluated on the same cells, and each is compared
with the study's reference arm, patient by patient. Arms whose recipes are the same share their
runs; what is on disk is not done again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from g2dbench.ablation.studies import published, recipes
from g2dbench.dataset import Dataset
from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation import grid as sweep
from g2dbench.evaluation.runner import Outcome
from g2dbench.evaluation.workbench import Workbench
from g2dbench.metrics.bootstrap import holm
from g2dbench.recipes.recipe import Recipe
from g2dbench.recipes.study import Arm, Study
from g2dbench.registry import Registry
from g2dbench.reporting.paired_comparison import Comparison, compare
from g2dbench.runs import folder as runs
from g2dbench.system.machine import Machine
from g2dbench.task import Task
from g2dbench.training import fit


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms share."""

    recipe: Recipe
    train: Dataset
    test: Dataset
    tasks: tuple[Task, ...]
    fraction: float
    protocol: str | None
    seeds: tuple[int, ...]
    out: Path
    machine: Machine


@dataclass(frozen=True)
class Row:
    """An arm on a task: its mean and spread over seeds, and how it compares with the reference.

    published: the paper's value and its standard deviation, in per cent, by table and data set.
    p_adjusted: Holm's correction of `comparison.p_patients` over the study's arms on this task.
    """

    arm: Arm
    task: str
    metric: str
    mean: float
    spread: float
    published: tuple[str, ...]
    comparison: Comparison | None
    p_adjusted: float


def run(study: Study, setting: Setting, registry: Registry) -> Iterator[tuple[Arm, Outcome]]:
    """Train and evaluate every arm with every seed; a cell as it ends. Resumes where it stopped."""
    for arm, recipe in zip(study.arms, recipes(study, setting.recipe), strict=True):
        for seed in setting.seeds:
            folder = _train(recipe, seed, setting, registry)
            for outcome in _evaluate(arm, folder, seed, setting, registry):
                yield arm, outcome


def _train(recipe: Recipe, seed: int, setting: Setting, registry: Registry) -> Path:
    folder = setting.out / "runs" / f"{runs.label_of(recipe, setting.train)}-s{seed}"
    started = (folder / runs.RUN_FILE).is_file()
    if started and runs.read_info(folder).fingerprint != setting.train.fingerprint:
        raise BadCheckpoint(f"{folder} was trained on other data: choose another --out")
    fit.fit(
        recipe,
        setting.train,
        folder,
        seed=seed,
        machine=setting.machine,
        resume=started,
        registry=registry,
        echo=lambda line: None,
    )
    return folder


def _evaluate(
    arm: Arm, folder: Path, seed: int, setting: Setting, registry: Registry
) -> Iterator[Outcome]:
    bench = Workbench(registry, {setting.test.card.name: setting.test})
    for task in setting.tasks:
        grid = sweep.Grid(
            models=[str(folder)],
            datasets=[setting.test.card.name],
            tasks=[task.CARD.name],
            fractions=[setting.fraction],
            seeds=[seed],
            protocol=_protocol(arm, task, setting.protocol),
        )
        yield from sweep.run(grid.cells(bench), bench, setting.machine, setting.out / "results")


def _protocol(arm: Arm, task: Task, name: str | None) -> str | None:
    """The protocol asked for, or its encoder-only sibling; a task that has none is the same."""
    chosen = task.CARD.protocols[0] if name is None or name not in task.PROTOCOLS else name
    sibling = f"{chosen}{arm.transfer}"
    return sibling if sibling in task.PROTOCOLS else chosen


def rows(study: Study, outcomes: Sequence[tuple[Arm, Outcome]], registry: Registry) -> list[Row]:
    """The study's table, by task and arm; an arm without all of its cells finished is left out."""
    tasks = list(dict.fromkeys(outcome.result.cell.task for _, outcome in outcomes))
    found: list[Row] = []
    for task in tasks:
        cells = {
            arm.name: [o for a, o in outcomes if a == arm and o.result.cell.task == task]
            for arm in study.arms
        }
        found += _of_task(study, task, cells, registry)
    return found


def _of_task(
    study: Study, task: str, cells: dict[str, list[Outcome]], registry: Registry
) -> list[Row]:
    done = {name: mine for name, mine in cells.items() if mine and all(_is_done(o) for o in mine)}
    reference = done.get(study.arms[0].name)
    compared = {
        name: compare(_folders(mine), _folders(reference), registry)
        for name, mine in done.items()
        if reference is not None and name != study.arms[0].name
    }
    adjusted = dict(
        zip(compared, holm([c.p_patients for c in compared.values()]).tolist(), strict=True)
    )
    table: list[Row] = []
    for arm in study.arms:
        if arm.name in done:
            values = [o.result.main.value for o in done[arm.name] if o.result.main]
            table.append(
                Row(
                    arm,
                    task,
                    done[arm.name][0].result.metric,
                    fmean(values),
                    stdev(values) if len(values) > 1 else float("nan"),
                    published(study, arm, task),
                    compared.get(arm.name),
                    adjusted.get(arm.name, float("nan")),
                )
            )
    return table


def _folders(outcomes: Sequence[Outcome]) -> list[Path]:
    """Those of finished cells, which all have one."""
    return [outcome.folder for outcome in outcomes if outcome.folder is not None]


def _is_done(outcome: Outcome) -> bool:
    return outcome.result.status == "done" and outcome.result.main is not None
