"""Regression test of scores for CI: pairs the cells of two results folders and compares metrics.

Two cells are paired if all fields of `Cell` agree: model, task, data, protocol, fraction, seeds,
limit; if a label names several models, the digests of their weights must agree too. A score fails
the gate if it fell by more than its tolerance and a paired test over patients does not call the
fall noise; without stored predictions on both sides the tolerance decides alone. "Fell" and "rose"
mean worse and better: a metric that is better when it is lower (`reporting/direction.py`) falls by
growing.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from g2dbench.errors import BadResult, Misuse
from g2dbench.reporting.direction import improvement
from g2dbench.reporting.model_names import with_digest
from g2dbench.reporting.stored_results import StoredResult
from g2dbench.result import Cell, Result
from g2dbench.system.counts import counted

Verdict = Literal["same", "rose", "noise", "fell", "new", "missing", "failed", "incomparable"]
VERDICTS: tuple[Verdict, ...] = (
    "same", "rose", "noise", "fell", "new", "missing", "failed", "incomparable",
)  # fmt: skip
"""rose: better by more than the tolerance. fell: worse by more than the tolerance.
noise: a fall beyond the tolerance that the paired test does not distinguish from chance.
failed: a new cell that failed. incomparable: other data, subset or protocol settings."""

DEFAULT_TOLERANCE = 0.01
ROUNDING = 1e-9
"""A fall of exactly the tolerance passes, whatever the rounding of the two scores."""
SIGNIFICANCE = 0.05

PairedTest = Callable[[StoredResult, StoredResult, str], float | None]
"""Before, now, metric -> two-sided p-value of the difference; None if it cannot be computed."""


@dataclass(frozen=True)
class Change:
    """One metric of one cell, before and now; NaN for a missing score. model: its printed name.

    p_value: of the paired test, if the score fell beyond its tolerance and the test was possible.
    """

    cell: Cell
    model: str
    metric: str
    before: float
    now: float
    tolerance: float
    verdict: Verdict
    reason: str = ""
    p_value: float | None = None

    @property
    def name(self) -> str:
        """The cell as text."""
        cell = self.cell
        seeds = f"s{cell.seed}" if cell.model_seed is None else f"m{cell.model_seed}-s{cell.seed}"
        share = "zero-shot" if cell.fraction == 0 else f"{cell.fraction * 100:g}%"
        if cell.shots is not None:
            share = f"{cell.shots}-shot"
        return f"{self.model} {cell.task}:{cell.protocol} {cell.data} {share} {seeds}"


def parse_tolerances(words: Iterable[str]) -> dict[str, float]:
    """`["0.02", "dice=0.05"]` -> {"": 0.02, "dice": 0.05}; "" is the default for all metrics."""
    tolerances = {"": DEFAULT_TOLERANCE}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise Misuse(f"--tolerance {word!r} is not NUMBER or METRIC=NUMBER, NUMBER >= 0")
        tolerances[name] = value
    return tolerances


def compare(
    before: Iterable[StoredResult],
    now: Iterable[StoredResult],
    tolerances: Mapping[str, float],
    paired_test: PairedTest | None = None,
) -> list[Change]:
    """Compare the main metric of each cell, and other metrics for which a tolerance is given.

    paired_test: asked about falls beyond the tolerance; None lets the tolerance decide alone.

    Raises:
        BadResult: the baseline has no finished cell.
        Misuse: a tolerance names a metric that no result has.
    """
    old = _by_cell(stored for stored in before if stored.result.status == "done")
    new = _by_cell(stored for stored in now if stored.result.status != "unsupported")
    if not old:
        raise BadResult(
            "the baseline contains no finished cell, so there is nothing to compare with"
        )
    _check_metric_names(tolerances, [*old.values(), *new.values()])
    changes: list[Change] = []
    for key in sorted(old.keys() | new.keys(), key=lambda cell: repr([*vars(cell).values()])):
        try:
            pairs = _pair_models(old.get(key, {}), new.get(key, {}))
        except BadResult as error:
            known = next(iter(old[key].values())).result
            changes.append(_unpaired(known, known.cell.model, "incomparable", str(error)))
            continue
        for model, one, other in pairs:
            changes += _compare_cell(model, one, other, tolerances, paired_test)
    return changes


def failing(changes: Iterable[Change]) -> list[Change]:
    """The changes that fail the gate: missing and failed cells, and falls that are no noise."""
    return [change for change in changes if change.verdict in ("fell", "missing", "failed")]


def exit_code(changes: Iterable[Change]) -> int:
    """0 open; 1 a score fell, or a cell is missing or failed; 3 something cannot be compared.

    Also 3 if nothing at all was compared: an empty gate must not pass.
    """
    listed = list(changes)
    if failing(listed):
        return 1
    compared = [change for change in listed if change.verdict in ("same", "rose", "noise")]
    incomparable = any(change.verdict == "incomparable" for change in listed)
    return 3 if incomparable or not compared else 0


def _compare_cell(
    model: str,
    one: StoredResult | None,
    other: StoredResult | None,
    tolerances: Mapping[str, float],
    paired_test: PairedTest | None,
) -> list[Change]:
    """The changes of one cell, before and now."""
    if one is None:
        assert other is not None
        if other.result.status == "done":
            return [_unpaired(other.result, model, "new")]
        return [_unpaired(other.result, model, "failed", other.result.reason or "")]
    if other is None or other.result.status != "done":
        reason = (other and other.result.reason) or "not run"
        return [_unpaired(one.result, model, "missing", reason)]
    if reason := _difference(one.result, other.result):
        return [_unpaired(other.result, model, "incomparable", reason)]
    names = [n for n in one.result.scores if n == one.result.metric or n in tolerances]
    if one.result.metric not in names:
        return [_unpaired(one.result, model, "incomparable", "the baseline has no main score")]
    return [_compare_metric(one, other, model, name, tolerances, paired_test) for name in names]


def _by_cell(results: Iterable[StoredResult]) -> dict[Cell, dict[str, StoredResult]]:
    """Cell -> digest of weights -> the newest result."""
    found: dict[Cell, dict[str, StoredResult]] = defaultdict(dict)
    for stored in sorted(results, key=lambda stored: stored.result.provenance.created):
        result = stored.result
        found[result.cell][result.provenance.weights] = stored
    return found


def _check_metric_names(
    tolerances: Mapping[str, float], cells: Iterable[Mapping[str, StoredResult]]
) -> None:
    known = {name for models in cells for one in models.values() for name in one.result.scores}
    for name in tolerances.keys() - {""} - known:
        raise Misuse(
            f"--tolerance {name}=...: no result has a metric {name!r}; known: "
            f"{', '.join(sorted(n for n in known if ':' not in n))}"
        )


def _pair_models(
    before: Mapping[str, StoredResult], now: Mapping[str, StoredResult]
) -> list[tuple[str, StoredResult | None, StoredResult | None]]:
    """The results of one cell by digest of weights -> (name of the model, before, now).

    If one model has the label, its results are paired even if it was trained again. Several models
    are paired by their weights; BadResult where the weights differ between before and now.
    """
    cell = next(iter((*before.values(), *now.values()))).result.cell
    if len(before) <= 1 and len(now) <= 1:
        one, other = (next(iter(part.values()), None) for part in (before, now))
        return [(cell.model, one, other)]
    if before and now and before.keys() != now.keys():
        raise BadResult(
            f"{cell.model} names {_describe_models(before)} in the baseline and "
            f"{_describe_models(now)} now, so {cell.task} on {cell.data} cannot be compared: "
            "remove the result.json of the models that are not to be compared, or write the new "
            "results to another folder (--out)"
        )
    digests = dict.fromkeys((*before, *now))
    return [(with_digest(cell.model, d), before.get(d), now.get(d)) for d in digests]


def _describe_models(results: Mapping[str, StoredResult]) -> str:
    """The number of models and their digests."""
    digests = ", ".join(with_digest("", digest) for digest in results)
    return f"{counted(len(results), 'model')} ({digests})"


def _difference(before: Result, now: Result) -> str:
    """Why two results cannot be compared, "" if they can."""
    for name in ("data", "subset"):
        one, other = getattr(before.provenance, name), getattr(now.provenance, name)
        if one != other:
            return (
                f"the baseline's {name} is {one[:12]}, the new one {other[:12]}: make a baseline "
                f"on the same {name}"
            )
    one, other = (result.provenance.config.get("protocol") for result in (before, now))
    if one is not None and other is not None and one != other:
        changed = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
        return f"the protocol's settings have changed ({', '.join(changed)}): make a new baseline"
    return ""


def _compare_metric(
    one: StoredResult,
    other: StoredResult,
    model: str,
    metric: str,
    tolerances: Mapping[str, float],
    paired_test: PairedTest | None,
) -> Change:
    before = one.result.scores[metric].value
    score = other.result.scores.get(metric)
    now = math.nan if score is None else score.value
    tolerance = tolerances.get(metric, tolerances[""])
    verdict, reason, p_value = _verdict(metric, before, now, tolerance), "", None
    if math.isnan(before):
        verdict, reason = "incomparable", "the baseline's score is undefined"
    elif verdict == "fell" and paired_test is not None and not math.isnan(now):
        p_value = paired_test(one, other, metric)
        if p_value is None:
            reason = "no matching predictions on both sides: the tolerance decides alone"
        elif p_value >= SIGNIFICANCE:
            verdict = "noise"
    return Change(
        other.result.cell, model, metric, before, now, tolerance, verdict, reason, p_value
    )


def _verdict(metric: str, before: float, now: float, tolerance: float) -> Verdict:
    """Compare two scores; an undefined new score is a fall."""
    gain = improvement(metric, before, now)
    if math.isnan(gain) or -gain > tolerance + ROUNDING:
        return "fell"
    return "rose" if gain > tolerance + ROUNDING else "same"


def _unpaired(result: Result, model: str, verdict: Verdict, reason: str = "") -> Change:
    value = result.main.value if result.main else math.nan
    is_old = verdict == "missing"
    before, now = (value, math.nan) if is_old else (math.nan, value)
    return Change(result.cell, model, result.metric, before, now, 0.0, verdict, reason)
