"""What a list of cells will cost, from the results of earlier cells: time and disk.

The estimate of a cell is that of the most similar earlier result: the same task and protocol, then,
as far as there is one, the same model and data set. Time grows with the number of images that the
cell reads. A cell without a similar result has no estimate; it is not guessed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from g2dbench.dataset import Dataset
from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.result import PREDICTIONS_FILE, Result, load, result_files


@dataclass(frozen=True)
class Earlier:
    """An earlier result, and the size of its predictions in bytes."""

    result: Result
    predictions: int


@dataclass(frozen=True)
class Estimate:
    """seconds and predictions (bytes): None without a similar earlier result.

    done: whether a result with the same key is on disk. It is used again only if weights, code and
    settings are the same, which is known after the model has been loaded.
    """

    spec: CellSpec
    done: bool
    seconds: float | None
    predictions: int | None


def earlier_results(folder: Path) -> list[Earlier]:
    """The finished results of a folder; broken files are left out: a plan needs no other."""
    found: list[Earlier] = []
    for path in result_files(folder) if folder.is_dir() else ():
        try:
            result = load(path)
        except BadResult:
            continue
        stored = path.with_name(PREDICTIONS_FILE)
        if result.status == "done" and stored.is_file():
            found.append(Earlier(result, stored.stat().st_size))
    return found


def estimate(
    specs: Iterable[CellSpec], datasets: dict[str, Dataset], earlier: Sequence[Earlier]
) -> list[Estimate]:
    """The estimate of each cell. datasets: open data sets by their names in the specs."""
    return [_estimate(spec, datasets[spec.data], earlier) for spec in specs]


def _estimate(spec: CellSpec, data: Dataset, earlier: Sequence[Earlier]) -> Estimate:
    alike = [old for old in earlier if _is_alike(old.result, spec)]
    done = any(_is_same(old.result, spec, data) for old in alike)
    if not alike:
        return Estimate(spec, done, None, None)
    best = max(alike, key=lambda old: _similarity(old.result, spec, data))
    images, tests = _images(spec, data, fits=best.result.cell.fraction > 0)
    counts = best.result.counts
    before = max(1, sum(counts.values()))
    seconds = best.result.provenance.seconds * images / before
    size = best.predictions * tests / max(1, counts.get("test", 1))
    return Estimate(spec, done, seconds, int(size))


def _is_alike(result: Result, spec: CellSpec) -> bool:
    return (result.cell.task, result.cell.protocol) == (spec.task, spec.protocol)


def _is_same(result: Result, spec: CellSpec, data: Dataset) -> bool:
    cell, source = result.cell, result.provenance.source
    fits = cell.fraction > 0
    return (
        source == spec.model
        and result.provenance.data == data.fingerprint
        and (cell.limit, cell.precision) == (spec.limit, spec.precision)
        and (
            not fits
            or (cell.fraction, cell.shots, cell.seed, cell.subset_seed, cell.draw, cell.validation)
            == (spec.fraction, spec.shots, spec.seed, spec.subset_seed, spec.draw, spec.validation)
        )
    )


def _similarity(result: Result, spec: CellSpec, data: Dataset) -> tuple[bool, bool, float]:
    return (
        result.provenance.source == spec.model,
        result.provenance.data == data.fingerprint,
        -abs(result.cell.fraction - spec.fraction),
    )


def _images(spec: CellSpec, data: Dataset, fits: bool) -> tuple[int, int]:
    """The number of images that the cell reads, and of its test images."""
    splits = data.table["split"].value_counts()
    tests = int(splits.get("test", 0))
    if spec.limit is not None:
        tests = min(tests, spec.limit)
    valid = int(splits.get("valid", 0))
    train = int(splits.get("train", 0) * spec.fraction) if fits else 0
    return train + valid + tests, tests
