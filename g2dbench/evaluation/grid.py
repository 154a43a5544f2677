"""Many cells: the product of models, data sets, tasks, fractions and seeds.

Running the same sweep again resumes it: cells on disk are returned as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from g2dbench.cards import TaskCard
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.evaluation.model_reference import Reference
from g2dbench.evaluation.runner import Outcome, Settings, evaluate
from g2dbench.registry import Registry
from g2dbench.task import Task, check_fraction, protocol_of


@dataclass(frozen=True)
class Grid:
    """What is multiplied. Zero-shot tasks ignore fractions and seeds and run once a model."""

    models: Sequence[Reference]
    datasets: Sequence[Dataset]
    tasks: Sequence[Task]
    fractions: Sequence[float] = (1.0,)
    seeds: Sequence[int] = (0,)
    protocol: str | None = None

    def on(self, datasets: Sequence[Dataset]) -> "Grid":
        """The same grid on these data sets."""
        return replace(self, datasets=datasets)

    def check(self) -> None:
        """Everything that can be wrong before a model is loaded."""
        for fraction in self.fractions:
            check_fraction(fraction)
        check_seeds(self.seeds)
        for task in self.tasks:
            protocol_of(task, self.protocol)


def load_tasks(names: Sequence[str], registry: Registry) -> list[Task]:
    """Task modules by name, each once, in the order asked for."""
    entries = [registry.find(TaskCard, name) for name in dict.fromkeys(names)]
    return [entry.load() for entry in entries]


def run(grid: Grid, registry: Registry, settings: Settings) -> Iterator[Outcome]:
    """Every cell of the grid, as it finishes. Each model is loaded once, or once a seed."""
    grid.check()
    for reference in grid.models:
        loads = grid.seeds if reference.per_seed else grid.seeds[:1]
        for load_seed in loads:
            model = reference.load(registry, load_seed)
            seeds = [load_seed] if reference.per_seed else grid.seeds
            for data in grid.datasets:
                for task, fraction, seed in _cells(grid, seeds):
                    yield evaluate(
                        model,
                        task,
                        data,
                        settings,
                        protocol=grid.protocol,
                        fraction=fraction,
                        seed=seed,
                    )


def _cells(grid: Grid, seeds: Sequence[int]) -> Iterator[tuple[Task, float, int]]:
    for task in grid.tasks:
        if not task.CARD.fits:
            yield task, 1.0, 0
            continue
        for fraction in dict.fromkeys(grid.fractions):
            for seed in dict.fromkeys(seeds):
                yield task, fraction, seed


def writable(folder: Path) -> None:
    """Fail early, with a sentence, where nothing could be written."""
    probe = folder / ".g2dbench-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise Misuse(f"cannot write to {folder}: {error.strerror}; choose another --out") from error


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds are whole numbers from 0; repeated ones count once."""
    if wrong := [seed for seed in seeds if seed < 0]:
        raise Misuse(f"--seed {wrong[0]} is negative: seeds count from 0")
    return list(dict.fromkeys(seeds))
