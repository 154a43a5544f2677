"""Two models over all cells that both have: paired tests, corrected for the number of cells.

A cell is one setting (task, data, protocol, fraction, ...); its runs differ in seeds. Runs of the
two models are paired by their seeds; published weights have no pre-training seed and are paired
with every pre-training seed of the other model. A cell whose data, subset, protocol settings or
predictions do not match is refused with the reason.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from g2dbench.errors import BadResult, G2DBenchError, Misuse
from g2dbench.metrics.bootstrap import holm
from g2dbench.metrics.intervals.paired_difference import PairedDifference, paired_difference
from g2dbench.registry import Registry, unknown_name
from g2dbench.reporting import model_names
from g2dbench.reporting.direction import lower_is_better
from g2dbench.reporting.paired_comparison import read_pair
from g2dbench.reporting.stored_results import StoredResult, newest
from g2dbench.result import Cell, training_share

SIGNIFICANCE = 0.05

Verdict = Literal["better", "worse", "equivalent", "open"]


@dataclass(frozen=True)
class ComparedCell:
    """One cell: values of both models (means over the paired runs), and their difference.

    p_holm, p_fdr: p adjusted over all cells by Holm, and by Benjamini and Hochberg.
    p_equivalence: of two one-sided tests, NaN without a margin. unpaired: runs without a partner.
    """

    cell: Cell
    metric: str
    first: float
    second: float
    difference: PairedDifference
    pairs: int
    unpaired: int
    p_holm: float = math.nan
    p_fdr: float = math.nan
    p_equivalence: float = math.nan

    @property
    def verdict(self) -> Verdict:
        """What is shown of the first model at 5 %, after Holm's correction."""
        if self.p_holm < SIGNIFICANCE:
            up = self.difference.value > 0
            return "better" if up != lower_is_better(self.metric) else "worse"
        return "equivalent" if self.p_equivalence < SIGNIFICANCE else "open"


@dataclass(frozen=True)
class ModelComparison:
    """All cells of two models. refused: (cell, why it is not compared)."""

    first: str
    second: str
    margin: float | None
    cells: tuple[ComparedCell, ...]
    refused: tuple[tuple[str, str], ...]


def compare_models(
    first: str,
    second: str,
    results: Iterable[StoredResult],
    registry: Registry,
    metric: str | None = None,
    margin: float | None = None,
) -> ModelComparison:
    """Compare two models, named as in the leaderboard, over their common cells.

    metric: None for each task's main score. margin: differences smaller than it are irrelevant.
    Raises Misuse for a name that no result has, BadResult if no cell can be compared.
    """
    by_model = _runs_of_models(newest(results))
    for name in (first, second):
        if name not in by_model:
            raise Misuse(unknown_name("model in these results", name, sorted(by_model)))
    if first == second:
        raise Misuse(f"{first!r} is named twice: name two models")
    ours, theirs = by_model[first], by_model[second]
    compared: list[ComparedCell] = []
    refused: list[tuple[str, str]] = []
    for key in sorted(ours.keys() | theirs.keys(), key=lambda cell: cell.model_dump_json()):
        try:
            missing = next(
                (n for n, runs in ((first, ours), (second, theirs)) if key not in runs), ""
            )
            if missing:
                raise BadResult(f"{missing} has no result")
            compared.append(compare_runs(ours[key], theirs[key], registry, metric))
        except G2DBenchError as error:
            refused.append((setting_of(key), str(error)))
    if not compared:
        why = "; ".join(f"{name}: {reason}" for name, reason in refused[:3])
        raise BadResult(f"{first} and {second} have no cell that can be compared: {why}")
    return ModelComparison(first, second, margin, _adjusted(compared, margin), tuple(refused))


def setting_of(cell: Cell) -> str:
    """The cell without model and seeds, as text."""
    share = training_share(cell.fraction, cell.shots)
    special = [
        "" if cell.limit is None else f"n<={cell.limit}",
        "" if cell.precision == "fp32" else cell.precision,
        "" if cell.draw == "covering" else cell.draw,
        "" if cell.validation == "full" else "val-budget",
    ]
    return " ".join([f"{cell.task}:{cell.protocol}", cell.data, share, *filter(None, special)])


def neutral_cell(cell: Cell) -> Cell:
    """The setting of a cell: the same for all models and seeds."""
    neutral = {"model": "", "model_seed": None, "seed": 0, "subset_seed": 0}
    return cell.model_copy(update=neutral)


def _runs_of_models(stored: Sequence[StoredResult]) -> dict[str, dict[Cell, list[StoredResult]]]:
    """Model -> setting -> its runs."""
    named = model_names.name_models([each.result for each in stored])
    found: dict[str, dict[Cell, list[StoredResult]]] = defaultdict(lambda: defaultdict(list))
    for each in stored:
        found[named.of(each.result)][neutral_cell(each.result.cell)].append(each)
    return found


def compare_runs(
    ours: Sequence[StoredResult],
    theirs: Sequence[StoredResult],
    registry: Registry,
    metric: str | None = None,
) -> ComparedCell:
    """Compare the runs of two models in one cell, paired by their seeds; p is not corrected.

    metric: None for the task's main score. BadResult where runs cannot be paired or compared.
    """
    pairs = _paired(ours, theirs)
    if not pairs:
        raise BadResult("the two models have no run with the same seeds")
    for one, other in pairs:
        _check_same_setting(one, other)
    name = metric or pairs[0][0].result.metric
    read = [read_pair(one.folder, other.folder, registry, name) for one, other in pairs]
    patients = read[0][0].patients
    if any(not np.array_equal(each.patients, patients) for pair in read for each in pair):
        raise BadResult("the runs were scored on different images")
    cells = [(one.result.cell, other.result.cell) for one, other in pairs]
    seeds: dict[str, list[Hashable]] = {
        "training": [(a.model_seed, b.model_seed, a.seed) for a, b in cells],
        "subset": [a.subset_seed for a, _ in cells],
    }
    found = paired_difference([(a.statistic, b.statistic) for a, b in read], patients, seeds)
    used = {id(each) for pair in pairs for each in pair}
    return ComparedCell(
        cell=neutral_cell(pairs[0][0].result.cell),
        metric=name,
        first=float(np.mean([a.value for a, _ in read])),
        second=float(np.mean([b.value for _, b in read])),
        difference=found,
        pairs=len(pairs),
        unpaired=sum(id(each) not in used for each in (*ours, *theirs)),
    )


def _paired(
    ours: Sequence[StoredResult], theirs: Sequence[StoredResult]
) -> list[tuple[StoredResult, StoredResult]]:
    """Runs of the same seeds; a model without a pre-training seed fits each of the other's."""
    return [
        (one, other)
        for one in sorted(ours, key=_seeds)
        for other in sorted(theirs, key=_seeds)
        if _fit(one.result.cell, other.result.cell)
    ]


def _seeds(stored: StoredResult) -> tuple[int, int, int]:
    cell = stored.result.cell
    return (cell.model_seed or 0, cell.seed, cell.subset_seed)


def _fit(one: Cell, other: Cell) -> bool:
    published = one.model_seed is None or other.model_seed is None
    same_model_seed = published or one.model_seed == other.model_seed
    return same_model_seed and (one.seed, one.subset_seed) == (other.seed, other.subset_seed)


def _check_same_setting(one: StoredResult, other: StoredResult) -> None:
    """BadResult if two runs are not finished, or of other data, subsets or settings."""
    for each in (one, other):
        if each.result.status != "done":
            raise BadResult(f"{each.folder} {each.result.status}: {each.result.reason or ''}")
        if each.predictions() is None:
            raise BadResult(
                f"{each.folder} has no predictions, or others than its scores were computed from: "
                "`g2dbench verify` says more"
            )
    for name in ("data", "subset"):
        if getattr(one.result.provenance, name) != getattr(other.result.provenance, name):
            what = "versions of the data" if name == "data" else "subsets of the training patients"
            raise BadResult(f"{one.folder} and {other.folder} used different {what}")
    before, now = (each.result.provenance.config.get("protocol") for each in (one, other))
    if isinstance(before, dict) and isinstance(now, dict) and before != now:
        keys = sorted(before.keys() | now.keys())
        names = ", ".join(key for key in keys if before.get(key) != now.get(key))
        raise BadResult(f"{one.folder} and {other.folder} used other protocol settings: {names}")


def _adjusted(cells: Sequence[ComparedCell], margin: float | None) -> tuple[ComparedCell, ...]:
    p_values = np.array([each.difference.p_value for each in cells])
    known = ~np.isnan(p_values)
    fdr = np.full(len(cells), np.nan)
    if known.any():
        fdr[known] = stats.false_discovery_control(p_values[known])
    equivalence = [
        math.nan if margin is None else each.difference.equivalence_p(margin) for each in cells
    ]
    return tuple(
        replace(each, p_holm=float(h), p_fdr=float(f), p_equivalence=e)
        for each, h, f, e in zip(cells, holm(p_values), fdr, equivalence, strict=True)
    )
