"""The folder that a training writes: a new one, or that of the run it resumes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from g2dbench.dataset import DataSource
from g2dbench.errors import Misuse
from g2dbench.recipes.recipe import Recipe, differences
from g2dbench.runs.folder import RUN_FILE, RUNS, RunFolder, all_runs, label_of, read_info
from g2dbench.system.locks import locked_at_once

LOCK_FILE = ".lock"
"""Held by the training that writes the folder."""


@contextmanager
def reserved(folder: Path, *, new: bool) -> Iterator[None]:
    """Hold the lock of a run folder: one training at a time writes it.

    Busy if another training does; Misuse if a `new` folder was filled in the meantime.
    """
    with locked_at_once(folder, folder / LOCK_FILE):
        if new:
            _check_empty(folder)
        yield


def new_folder(out: Path | None, label: str, seed: int) -> Path:
    """A new, empty folder: `out`, or the first free one of runs/LABEL-sSEED, -2, -3, ...

    Raises Misuse if `out` is not empty.
    """
    try:
        return _numbered(f"{label}-s{seed}") if out is None else _empty(out)
    except OSError as error:
        raise Misuse(f"the run folder {out or RUNS} cannot be created: {error}") from error


def _numbered(name: str) -> Path:
    number = 1
    while True:
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _empty(out: Path) -> Path:
    if (out / LOCK_FILE).exists():
        with reserved(out, new=False):  # Busy if a training is at work there
            pass
    out.mkdir(parents=True, exist_ok=True)
    _check_empty(out)
    return out


def _check_empty(out: Path) -> None:
    if (out / RUN_FILE).is_file():
        raise Misuse(
            f"{out} already holds a run: give another --out, or --resume to continue that one"
        )
    if any(child.name != LOCK_FILE for child in out.iterdir()):
        raise Misuse(f"{out} holds other files: give an empty or a new folder as --out")


def find_run_to_resume(
    out: Path | None,
    recipe: Recipe,
    dataset: DataSource,
    seed: int,
    precision: str,
    processes: int = 1,
) -> RunFolder:
    """The run that `--resume` continues: `out`, or the newest unfinished one of label and seed.

    Raises Misuse if there is none, or if it started with another recipe, seed, data set, precision
    or number of processes, which would change its batches.
    """
    if out is None:
        out = _newest_unfinished(label_of(recipe, dataset), seed)
    elif not (out / RUN_FILE).is_file():
        raise Misuse(f"there is no run to resume in {out}: it has no {RUN_FILE}")
    started = RunFolder(out, read_info(out))
    info, data = started.info, f"{dataset.card.name} {dataset.fingerprint[:8]}"
    both = {
        "seed": (info.seed, seed),
        "precision": (info.precision, precision),
        "data": (f"{info.data} {info.fingerprint[:8]}", data),
        "processes": (info.processes, processes),
    }
    changed = differences(info.recipe, recipe)
    changed += [f"{what}: {then} / {now}" for what, (then, now) in both.items() if then != now]
    if changed:
        raise Misuse(
            f"{out} cannot be resumed with other settings (then / now): {'; '.join(changed)}"
        )
    return started


def _newest_unfinished(label: str, seed: int) -> Path:
    found = [
        (info.created, folder)
        for folder, info in all_runs(RUNS)
        if info.status == "running" and info.label == label and info.seed == seed
    ]
    if not found:
        raise Misuse(f"there is no unfinished run of {label} with seed {seed} in {RUNS}/ to resume")
    return max(found)[1]
