"""A grid of cells: the product of models, data sets, tasks, fractions and seeds.

Running the same grid again resumes it: cells on disk are not run again. A cell that fails, or whose
model cannot be loaded, does not stop the others.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from g2dbench.cards import TaskCard
from g2dbench.data.splits.fractions import Draw
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_folder import remove_abandoned
from g2dbench.evaluation.cell_spec import MAX_LABEL, CellSpec
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.prompts import with_prompts
from g2dbench.evaluation.runner import run_cell
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.system.files import address_of
from g2dbench.system.machine import Machine
from g2dbench.system.overrides import join_name
from g2dbench.task import Task, check_fraction, protocol_of


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The names to combine. Zero-shot tasks ignore fractions and seeds: one cell per model.

    changes: `FIELD=VALUE` changes of the protocol's settings.
    labels: rows of the leaderboard for some of the models, instead of the models' own labels.
    """

    models: Sequence[str]
    datasets: Sequence[str]
    tasks: Sequence[str]
    fractions: Sequence[float] = (1.0,)
    seeds: Sequence[int] = (0,)
    protocol: str | None = None
    changes: Sequence[str] = ()
    subset_seeds: Sequence[int] = (0,)
    draw: Draw = "covering"
    shots: Sequence[int] = ()
    validation: Literal["full", "budget"] = "full"
    limit: int | None = None
    prompts: Path | None = None
    prompt_sensitivity: bool = False
    precision: str = "fp32"
    store: Path | None = None
    size: int | None = None
    plugins: Sequence[Path] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def cells(self, bench: Workbench) -> list[CellSpec]:
        """All cells, ordered so that each model is loaded once, or once for each seed.

        Raises Misuse for every error that can be found before a model is loaded.
        """
        subsets = self._subsets()
        seeds = check_seeds(self.seeds)
        tasks = [bench.task(name) for name in dict.fromkeys(self.tasks)]
        cells: list[CellSpec] = []
        for model in self.models:
            per_seed = bench.reference(model).per_seed
            for model_seed in seeds if per_seed else [0]:
                for data in self.datasets:
                    for task in tasks:
                        task_seeds = [model_seed] if per_seed else seeds
                        cells += self._of_task(task, model, model_seed, data, subsets, task_seeds)
        return cells

    def _subsets(self) -> list[dict[str, Any]]:
        """The fields of a `CellSpec` that name a subset: fractions, or shots if any are given."""
        shares: list[dict[str, Any]] = [{"shots": shots} for shots in dict.fromkeys(self.shots)]
        if not shares:
            fractions = dict.fromkeys(check_fraction(fraction) for fraction in self.fractions)
            shares = [{"fraction": fraction} for fraction in fractions]
        seeds = dict.fromkeys(self.subset_seeds)
        return [{**share, "subset_seed": seed} for share in shares for seed in seeds]

    def _of_task(
        self,
        task: Task,
        model: str,
        model_seed: int,
        data: str,
        subsets: Sequence[dict[str, Any]],
        seeds: Sequence[int],
    ) -> Iterator[CellSpec]:
        base = self.protocol or task.CARD.protocols[0]
        protocol, settings = protocol_of(task, join_name(base, self.changes))
        with_prompts(task, protocol, self.prompts)
        if self.prompt_sensitivity and not hasattr(settings, "prompts"):
            raise Misuse(f"--prompt-sensitivity: {task.CARD.name} asks with no text prompts")
        if not task.CARD.fits:
            subsets, seeds = [{"fraction": 0.0}], [0]
        for subset in subsets:
            for seed in seeds:
                yield CellSpec(
                    model=model,
                    model_seed=model_seed,
                    label=self.labels.get(model),
                    task=task.CARD.name,
                    data=data,
                    protocol=protocol,
                    seed=seed,
                    draw=self.draw,
                    validation=self.validation,
                    limit=self.limit,
                    prompts=None if self.prompts is None else self.prompts.resolve(),
                    prompt_sensitivity=self.prompt_sensitivity,
                    precision=self.precision,
                    store=self.store,
                    size=self.size,
                    plugins=tuple(self.plugins),
                    **subset,
                )


def run(
    cells: Sequence[CellSpec],
    bench: Workbench,
    machine: Machine,
    out: Path,
    rerun: bool = False,
    save_heads: bool = False,
) -> Iterator[Outcome]:
    """Yield the outcome of each cell when it ends; rerun: run cells on disk again too."""
    remove_abandoned(out)
    for spec in cells:
        yield run_cell(spec, bench, machine, out, rerun, save_heads)


def load_tasks(names: Sequence[str], registry: Registry) -> list[Task]:
    """Task modules by name, without repetitions, in the given order."""
    entries = [registry.find(TaskCard, name) for name in dict.fromkeys(names)]
    return [entry.load() for entry in entries]


def check_writable(folder: Path) -> None:
    """Raise Misuse early if the folder is not writable, or is the address of an object store."""
    if (address := address_of(folder)) is not None:
        raise Misuse(
            f"--out {address} is an address, to which only `g2dbench eval` and `g2dbench sweep` "
            "write: choose a folder"
        )
    probe = folder / f".g2dbench-write-test-{secrets.token_hex(4)}"  # others may probe too
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise Misuse(f"cannot write to {folder}: {error.strerror}; choose another --out") from error


def label_models(models: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Model -> its label, in the given order; Misuse unless there is one for each model.

    Models with the same label are one row if they are pre-training seeds, else two with digests.
    """
    if not labels:
        return {}
    names = ", ".join(models)
    if len(labels) != len(models):
        raise Misuse(
            f"--label is given {len(labels)} times, but there are {len(models)} models ({names}): "
            "give one label for each --model, in the same order, or none"
        )
    if wrong := [label for label in labels if not label.strip() or not label.isprintable()]:
        raise Misuse(f"--label {wrong[0]!r} is empty or has characters that cannot be printed")
    if long := [label for label in labels if len(label) > MAX_LABEL]:
        raise Misuse(f"--label {long[0]!r} has {len(long[0])} characters; give {MAX_LABEL} at most")
    return dict(zip(models, labels, strict=True))


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds without repetitions; Misuse for a negative one."""
    if wrong := [seed for seed in seeds if seed < 0]:
        raise Misuse(f"--seed {wrong[0]} is negative: seeds count from 0")
    return list(dict.fromkeys(seeds))
