"""Run an ablation study: train its arms with the same seeds, evaluate and compare them.

All arms start from one recipe, are trained on one data set and evaluated on the same cells; each is
compared with the reference arm by a paired test over patients. Arms with equal recipes share their
runs; runs and cells on disk are reused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from g2dbench.ablation.studies import arm_recipes, published_values
from g2dbench.dataset import Dataset
from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.sweep import grid as sweep
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
class StudySettings:
    """Settings that all arms share."""

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
class ArmResult:
    """An arm on a task: mean and standard deviation over seeds, and its comparison.

    published: values of the paper with standard deviation, in percent, one per data set.
    comparison: with the reference arm. p_adjusted: `comparison.p_patients` with Holm's correction
    over the arms of the study on this task.
    """

    arm: Arm
    task: str
    metric: str
    mean: float
    spread: float
    published: tuple[str, ...]
    comparison: Comparison | None
    p_adjusted: float


def run(study: Study, settings: StudySettings, registry: Registry) -> Iterator[tuple[Arm, Outcome]]:
    """Train and evaluate every arm with every seed, yielding each cell; resumes after a stop."""
    for arm, recipe in zip(study.arms, arm_recipes(study, settings.recipe), strict=True):
        for seed in settings.seeds:
            folder = _train(recipe, seed, settings, registry)
            for outcome in _evaluate(arm, folder, seed, settings, registry):
                yield arm, outcome


def _train(recipe: Recipe, seed: int, settings: StudySettings, registry: Registry) -> Path:
    folder = settings.out / "runs" / f"{runs.label_of(recipe, settings.train)}-s{seed}"
    started = (folder / runs.RUN_FILE).is_file()
    if started and runs.read_info(folder).fingerprint != settings.train.fingerprint:
        raise BadCheckpoint(f"{folder} was trained on other data: choose another --out")
    fit.fit(
        recipe,
        settings.train,
        folder,
        seed=seed,
        machine=settings.machine,
        resume=started,
        registry=registry,
        echo=lambda line: None,
    )
    return folder


def _evaluate(
    arm: Arm, folder: Path, seed: int, settings: StudySettings, registry: Registry
) -> Iterator[Outcome]:
    bench = Workbench(registry, {settings.test.card.name: settings.test})
    for task in settings.tasks:
        grid = sweep.Grid(
            models=[str(folder)],
            datasets=[settings.test.card.name],
            tasks=[task.CARD.name],
            fractions=[settings.fraction],
            seeds=[seed],
            protocol=_protocol(arm, task, settings.protocol),
        )
        yield from sweep.run(grid.cells(bench), bench, settings.machine, settings.out / "results")


def _protocol(arm: Arm, task: Task, name: str | None) -> str | None:
    """The protocol `name`, or its encoder-only variant if the arm needs it and the task has it."""
    chosen = task.CARD.protocols[0] if name is None or name not in task.PROTOCOLS else name
    sibling = f"{chosen}{arm.transfer}"
    return sibling if sibling in task.PROTOCOLS else chosen


def arm_results(
    study: Study, outcomes: Sequence[tuple[Arm, Outcome]], registry: Registry
) -> list[ArmResult]:
    """The results by task and arm; an arm with unfinished cells is left out."""
    tasks = list(dict.fromkeys(outcome.result.cell.task for _, outcome in outcomes))
    found: list[ArmResult] = []
    for task in tasks:
        cells = {
            arm.name: [o for a, o in outcomes if a == arm and o.result.cell.task == task]
            for arm in study.arms
        }
        found += _task_results(study, task, cells, registry)
    return found


def _task_results(
    study: Study, task: str, cells: dict[str, list[Outcome]], registry: Registry
) -> list[ArmResult]:
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
    table: list[ArmResult] = []
    for arm in study.arms:
        if arm.name in done:
            values = [o.result.main.value for o in done[arm.name] if o.result.main]
            table.append(
                ArmResult(
                    arm,
                    task,
                    done[arm.name][0].result.metric,
                    fmean(values),
                    stdev(values) if len(values) > 1 else float("nan"),
                    published_values(study, arm, task),
                    compared.get(arm.name),
                    adjusted.get(arm.name, float("nan")),
                )
            )
    return table


def _folders(outcomes: Sequence[Outcome]) -> list[Path]:
    """Folders of finished cells."""
    return [outcome.folder for outcome in outcomes if outcome.folder is not None]


def _is_done(outcome: Outcome) -> bool:
    return outcome.result.status == "done" and outcome.result.main is not None
