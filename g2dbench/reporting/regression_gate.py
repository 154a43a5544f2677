"""Regression test of scores for CI: pairs the cells of two results folders and compares metrics.

Two cells are paired if all fields of `Cell` agree: model, task, data, protocol, fraction, seeds,
limit; if a label names several models, the digests of their weights must agree too. Cells on
different data or another subset are an error. For every metric, higher is better.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from g2dbench.errors import BadResult, Misuse
from g2dbench.reporting.model_names import with_digest
from g2dbench.result import Cell, Result
from g2dbench.system.counts import counted

Verdict = Literal["same", "rose", "fell", "new", "missing"]
DEFAULT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Change:
    """One metric of one cell, before and now; NaN for a missing score. model: its printed name."""

    cell: Cell
    model: str
    metric: str
    before: float
    now: float
    tolerance: float
    verdict: Verdict
    reason: str = ""

    @property
    def name(self) -> str:
        """The cell as text."""
        cell = self.cell
        seeds = f"s{cell.seed}" if cell.model_seed is None else f"m{cell.model_seed}-s{cell.seed}"
        share = "zero-shot" if cell.fraction == 0 else f"{cell.fraction * 100:g}%"
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
    before: Iterable[Result], now: Iterable[Result], tolerances: Mapping[str, float]
) -> list[Change]:
    """Compare the main metric of each cell, and other metrics for which a tolerance is given."""
    old = _by_cell(result for result in before if result.status == "done")
    new = _by_cell(result for result in now if result.status != "unsupported")
    if not old:
        raise BadResult(
            "the baseline contains no finished cell, so there is nothing to compare with"
        )
    changes: list[Change] = []
    for key in sorted(old.keys() | new.keys()):
        for model, one, other in _pair_models(old.get(key, {}), new.get(key, {})):
            if one is None:
                assert other is not None
                changes.append(_unpaired(other, model, "new"))
            elif other is None or other.status != "done":
                reason = (other and other.reason) or "not run"
                changes.append(_unpaired(one, model, "missing", reason))
            else:
                _check_same_data(one, other, model)
                metrics = _compared_metrics(one, tolerances)
                changes += [
                    _compare_metric(one, other, model, name, tolerances) for name in metrics
                ]
    return changes


def failed(changes: Iterable[Change]) -> list[Change]:
    """The changes that fail the gate: missing scores, and falls beyond the tolerance."""
    return [change for change in changes if change.verdict in ("fell", "missing")]


def _by_cell(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """Cell -> digest of weights -> the newest result."""
    found: dict[str, dict[str, Result]] = defaultdict(dict)
    for result in sorted(results, key=lambda result: result.provenance.created):
        found[result.cell.model_dump_json()][result.provenance.weights] = result
    return found


def _pair_models(
    before: Mapping[str, Result], now: Mapping[str, Result]
) -> list[tuple[str, Result | None, Result | None]]:
    """The results of one cell by digest of weights -> (name of the model, before, now).

    If one model has the label, its results are paired even if it was trained again. Several models
    are paired by their weights; BadResult where the weights differ between before and now.
    """
    cell = next(iter((*before.values(), *now.values()))).cell
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


def _describe_models(results: Mapping[str, Result]) -> str:
    """The number of models and their digests."""
    digests = ", ".join(with_digest("", digest) for digest in results)
    return f"{counted(len(results), 'model')} ({digests})"


def _check_same_data(before: Result, now: Result, model: str) -> None:
    for name in ("data", "subset"):
        one, other = getattr(before.provenance, name), getattr(now.provenance, name)
        if one != other:
            raise BadResult(
                f"{_unpaired(now, model, 'new').name} cannot be compared: the baseline's {name} "
                f"is {one[:12]}, the new one {other[:12]}; make a baseline on the same {name}"
            )


def _compared_metrics(result: Result, tolerances: Mapping[str, float]) -> list[str]:
    return [n for n in result.scores if n == result.metric or n in tolerances]


def _compare_metric(
    one: Result, other: Result, model: str, metric: str, tolerances: Mapping[str, float]
) -> Change:
    before = one.scores[metric].value
    score = other.scores.get(metric)
    now = math.nan if score is None else score.value
    tolerance = tolerances.get(metric, tolerances[""])
    verdict = _verdict(before, now, tolerance)
    return Change(other.cell, model, metric, before, now, tolerance, verdict)


def _verdict(before: float, now: float, tolerance: float) -> Verdict:
    """Compare two scores; an undefined score (NaN) is lower than every other."""
    if math.isnan(before) or math.isnan(now):
        if math.isnan(before) and math.isnan(now):
            return "same"
        return "fell" if math.isnan(now) else "rose"
    if now < before - tolerance:
        return "fell"
    return "rose" if now > before + tolerance else "same"


def _unpaired(result: Result, model: str, verdict: Verdict, reason: str = "") -> Change:
    value = result.main.value if result.main else math.nan
    before, now = (value, math.nan) if verdict == "missing" else (math.nan, value)
    return Change(result.cell, model, result.metric, before, now, 0.0, verdict, reason)


def junit(changes: Iterable[Change]) -> str:
    """The comparison as JUnit XML, one test case per cell and metric."""
    listed = list(changes)
    failing = failed(listed)
    suite = ElementTree.Element(
        "testsuite", name="g2dbench regress", tests=str(len(listed)), failures=str(len(failing))
    )
    for change in listed:
        case = ElementTree.SubElement(suite, "testcase", classname=change.name, name=change.metric)
        if change in failing:
            text = f"{change.verdict}: {change.before:.4f} -> {change.now:.4f}, "
            ElementTree.SubElement(
                case, "failure", message=f"{text}tolerance {change.tolerance:g} {change.reason}"
            )
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
