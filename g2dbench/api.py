"""The Python interface: evaluate a model, and read results as tables.

    import g2dbench

    scores = g2dbench.evaluate("random-init", tasks=["cls"], data="synthetic")
    scores = g2dbench.load_results("results")
    table = g2dbench.leaderboard("results")

Each function does what the command of the same name does, in this process, and prints nothing.
docs/api.md has examples.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from torch import nn

from g2dbench.data.opening import open_prepared
from g2dbench.dataset import Dataset
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.fingerprint import forget
from g2dbench.evaluation.runner import run_cell
from g2dbench.evaluation.sweep.grid import Grid, check_writable, label_models
from g2dbench.evaluation.workbench import Workbench
from g2dbench.model import Model
from g2dbench.progress import Progress, quiet
from g2dbench.registry import Registry
from g2dbench.reporting.leaderboard.formats import records
from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard, without_limited
from g2dbench.reporting.leaderboard.significance import mark_best
from g2dbench.reporting.result_table import result_table
from g2dbench.reporting.stored_results import StoredResult, read_results
from g2dbench.system.machine import FeatureFolder, Machine

T = TypeVar("T")

_STORE = ("G2DBENCH_STORE", "~/.cache/g2dbench")
_FEATURES = ("G2DBENCH_FEATURES", "~/.cache/g2dbench-features")


class UnreadableResult(UserWarning):
    """A result file that was left out of a table because it is broken."""


def evaluate(
    model: str | Path | Model,
    tasks: Sequence[str],
    data: str | Dataset = "synthetic",
    *,
    fractions: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0,),
    subset_seeds: Sequence[int] = (0,),
    protocol: str | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    label: str | None = None,
    out: str | Path = "results",
    rerun: bool = False,
    store: str | Path | None = None,
    size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
    cache_features: bool = True,
    plugins: Sequence[str | Path] = (),
    progress: Progress = quiet,
) -> pd.DataFrame:
    """Evaluate a model on tasks, write a result per cell, and return the scores.

    Args:
        model: what `--model` takes (a name, NAME:SOURCE, a run folder, a weights file, a plug-in
            file), or a loaded `g2dbench.Model`. A loaded model is moved to the device; its weights
            are examined at each call, so a model that was trained further is a new model.
        tasks: names; fractions, seeds, subset_seeds: the grid, as in `g2dbench eval`.
        data: what `--data` takes, prepared before; or an open `g2dbench.Dataset`.
        protocol: of the tasks, the default one if None; changes: `FIELD=VALUE` of its settings.
        limit: maximum number of test images; label: the model's row of the leaderboard.
        out: folder of the results. A cell that it already contains is not evaluated again, unless
            `rerun`.
        store: folder of the prepared data sets; None as on the command line: `G2DBENCH_STORE`, or
            ~/.cache/g2dbench. size: short side of the prepared images in pixels.
        device, precision, batch_size: as in `g2dbench eval`.
        cache_features: whether features of frozen encoders are cached on disk.
        plugins: files of models, tasks, data sets and methods that names may refer to.
        progress: how progress is shown; see `g2dbench/progress.py`.

    Returns:
        The table of `load_results` for the cells of this call, in the order in which they ran. A
        cell that is unsupported or failed has a row with the reason; the others are still run.

    Raises:
        Misuse: an unknown name or an impossible value, before anything is evaluated.
        BadData: the data set is not prepared.
    """
    folder = Path(out)
    check_writable(folder)
    registry = Registry([Path(file) for file in plugins])
    bench, text = Workbench(registry), _name_of(model)
    if isinstance(model, nn.Module):
        bench.add_model(text, _checked(model))
    place = _folder(*_STORE) if store is None else Path(store).expanduser()
    name = _add_data(bench, data, place, size, progress)
    machine = Machine.choose(
        device,
        precision,
        batch_size=batch_size,
        progress=progress,
        features=FeatureFolder(_folder(*_FEATURES)) if cache_features else None,
    )
    requested = Grid(
        models=[text],
        datasets=[name],
        tasks=_several("tasks", tasks),
        fractions=_several("fractions", fractions),
        seeds=_several("seeds", seeds),
        subset_seeds=_several("subset_seeds", subset_seeds),
        protocol=protocol,
        changes=changes,
        limit=limit,
        labels=label_models([text], [] if label is None else [label]),
        precision=machine.precision,
        store=place,
        size=size,
        plugins=[Path(file) for file in plugins],
    )
    with _mode_restored(model):
        return _run(requested.cells(bench), bench, machine, folder, rerun)


def load_results(folder: str | Path) -> pd.DataFrame:
    """All results below a folder as a table with one row per score.

    `docs/api.md` lists the columns. A broken file is left out with an `UnreadableResult` warning.
    BadResult if the folder does not exist, or none of its results can be read.
    """
    return result_table(_read(Path(folder)))


def leaderboard(folder: str | Path, *, with_limited: bool = False) -> pd.DataFrame:
    """The leaderboard of a results folder, one row per model and column of `g2dbench leaderboard`.

    `mean` is over the seeds, `low` and `high` are the 95 % interval over patients, and `reason`
    says why an entry is missing; `best` whether the entry is bold in the printed table.
    `.attrs["notes"]` holds the sentences below that table.

    with_limited: include results on a part of the test images (`limit`).
    """
    stored, registry = _read(Path(folder)), Registry()
    results = [each.result for each in stored]
    kept, limited = (results, 0) if with_limited else without_limited(results)
    board = mark_best(build_leaderboard(kept, registry.task_order()), stored, registry)
    table = pd.DataFrame(records(board))
    left_out = f"{limited} results with a limit are left out: with_limited=True shows them."
    table.attrs["notes"] = [*board.notes, *([left_out] if limited else [])]
    return table


def _run(
    cells: Sequence[CellSpec], bench: Workbench, machine: Machine, out: Path, rerun: bool
) -> pd.DataFrame:
    outcomes = [run_cell(spec, bench, machine, out, rerun) for spec in cells]
    return result_table(StoredResult(each.result, each.folder or out) for each in outcomes)


def _read(folder: Path) -> list[StoredResult]:
    found, problems = read_results(folder)
    for problem in problems:
        warnings.warn(f"left out: {problem}", UnreadableResult, stacklevel=3)
    return found


def _name_of(model: object) -> str:
    """The text that stands for the model in results."""
    if isinstance(model, str | Path):
        return str(model)
    if not isinstance(model, nn.Module):
        raise Misuse(
            f"model is of the type {type(model).__name__}: give a name (`g2dbench list models`), "
            "the path of a file or run folder, or a loaded g2dbench.Model"
        )
    identity = getattr(model, "identity", None)
    return str(getattr(identity, "source", "") or getattr(identity, "label", "model"))


def _checked(model: nn.Module) -> Model:
    """The loaded model; Misuse if it has not the interface of a model."""
    name = type(model).__name__
    if not isinstance(model, Model):
        raise Misuse(
            f"{name} is not a g2dbench.Model: derive its class from g2dbench.Model, and give it "
            "card, preprocess and identity (`g2dbench new model my_model.py` writes an example)"
        )
    if lacking := [part for part in ("card", "preprocess", "identity") if not hasattr(model, part)]:
        raise Misuse(
            f"the model {name} has no {' and no '.join(lacking)}: `g2dbench new model my_model.py` "
            "writes a model that has them"
        )
    forget(model)
    return model


def _add_data(
    bench: Workbench, data: str | Dataset, store: Path, size: int | None, progress: Progress
) -> str:
    """Open the data set for the cells; returns its name."""
    if not isinstance(data, str):
        bench.add_dataset(data.card.name, data)
        return data.card.name
    # Without worker processes: in a script, these would import the script and call this again.
    opened = open_prepared(
        data, store, bench.registry, size=size, workers=0, progress=progress, echo=_warn
    )
    bench.add_dataset(data, opened)
    return data


def _warn(sentence: str) -> None:
    warnings.warn(sentence, UserWarning, stacklevel=2)


def _several(name: str, values: Sequence[T]) -> list[T]:
    """The values as a list; Misuse for a single text or number, and for none."""
    if isinstance(values, str | int | float):
        raise Misuse(f"{name}={values!r} is no list: give a list, {name}=[{values!r}]")
    if len(values) == 0:
        advice = ": `g2dbench list tasks` lists the tasks" if name == "tasks" else ": give one"
        raise Misuse(f"{name} is empty{advice}")
    return list(values)


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()


@contextmanager
def _mode_restored(model: Any) -> Iterator[None]:
    """Give a loaded model back in the training mode in which it came."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
