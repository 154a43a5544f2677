"""CI regression on scores: pair the cells of two result folders and judge each metric.

A cell is paired by everything in `Cell`: model, task, data, protocol, fraction, seeds, limit; where
a label names several models, by the digest of their weights too. Cells on other data or another
subset are refused, not compared. Higher is better for every metric.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from g2dbench.errors import BadResult, Misuse
from g2dbench.reporting.model_names import marked
from g2dbench.result import Cell, Result

Verdict = Literal["same", "rose", "fell", "new", "missing"]
DEFAULT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Change:
    """One metric of one cell, before and now; NaN where there is none. model: the row's name."""

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
        """The cell in words."""
        cell = self.cell
        seeds = f"s{cell.seed}" if cell.model_seed is None else f"m{cell.model_seed}-s{cell.seed}"
        share = "zero-shot" if cell.fraction == 0 else f"{cell.fraction * 100:g}%"
        return f"{self.model} {cell.task}:{cell.protocol} {cell.data} {share} {seeds}"


def parse_tolerances(words: Iterable[str]) -> dict[str, float]:
    """`["0.02", "dice=0.05"]` -> {"": 0.02, "dice": 0.05}; "" is the default of all metrics."""
    found = {"": DEFAULT_TOLERANCE}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise Misuse(f"--tolerance {word!r} is not NUMBER or METRIC=NUMBER, NUMBER >= 0")
        found[name] = value
    return found


def compare(
    before: Iterable[Result], now: Iterable[Result], tolerances: Mapping[str, float]
) -> list[Change]:
    """Every main metric, and every other metric with a tolerance of its own, cell by cell."""
    old = _by_cell(result for result in before if result.status == "done")
    new = _by_cell(result for result in now if result.status != "unsupported")
    if not old:
        raise BadResult("the baseline holds no finished cell: there is nothing to gate on")
    changes: list[Change] = []
    for key in sorted(old.keys() | new.keys()):
        for model, one, other in _paired(old.get(key, {}), new.get(key, {})):
            if one is None:
                assert other is not None
                changes.append(_alone(other, model, "new"))
            elif other is None or other.status != "done":
                reason = (other and other.reason) or "not run"
                changes.append(_alone(one, model, "missing", reason))
            else:
                _refuse_unlike(one, other, model)
                watched = _watched(one, tolerances)
                changes += [_judge(one, other, model, name, tolerances) for name in watched]
    return changes


def failed(changes: Iterable[Change]) -> list[Change]:
    """What closes the gate: a score that fell beyond its tolerance, or one that is missing."""
    return [change for change in changes if change.verdict in ("fell", "missing")]


def _by_cell(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """The newest result of each cell and of each model that goes by its label."""
    found: dict[str, dict[str, Result]] = defaultdict(dict)
    for result in sorted(results, key=lambda result: result.provenance.created):
        found[result.cell.model_dump_json()][result.provenance.weights] = result
    return found


def _paired(
    before: Mapping[str, Result], now: Mapping[str, Result]
) -> list[tuple[str, Result | None, Result | None]]:
    """One cell's results by digest of weights -> the model's name, before, now.

    A label of one model is that model, trained again or not. Several models are told apart by
    their weights; BadResult where these are not the same before and now.
    """
    cell = next(iter((*before.values(), *now.values()))).cell
    if len(before) <= 1 and len(now) <= 1:
        one, other = (next(iter(part.values()), None) for part in (before, now))
        return [(cell.model, one, other)]
    if before and now and before.keys() != now.keys():
        raise BadResult(
            f"{cell.model} names {_counted(before)} in the baseline and {_counted(now)} now, so "
            f"that {cell.task} on {cell.data} cannot be compared: remove the result.json of the "
            "models that are not meant, or write today's results to a folder of their own (--out)"
        )
    digests = dict.fromkeys((*before, *now))
    return [(marked(cell.model, d), before.get(d), now.get(d)) for d in digests]


def _counted(results: Mapping[str, Result]) -> str:
    """How many models there are, and by which digests."""
    some = ", ".join(marked("", digest) for digest in results)
    return f"{len(results)} model{'s' if len(results) > 1 else ''} ({some})"


def _refuse_unlike(before: Result, now: Result, model: str) -> None:
    for name in ("data", "subset"):
        one, other = getattr(before.provenance, name), getattr(now.provenance, name)
        if one != other:
            raise BadResult(
                f"{_alone(now, model, 'new').name} cannot be compared: the baseline's {name} "
                f"is {one[:12]}, today's is {other[:12]}; make a new baseline on the same {name}"
            )


def _watched(result: Result, tolerances: Mapping[str, float]) -> list[str]:
    return [n for n in result.scores if n == result.metric or n in tolerances]


def _judge(
    one: Result, other: Result, model: str, metric: str, tolerances: Mapping[str, float]
) -> Change:
    before = one.scores[metric].value
    score = other.scores.get(metric)
    now = math.nan if score is None else score.value
    tolerance = tolerances.get(metric, tolerances[""])
    verdict = _verdict(before, now, tolerance)
    return Change(other.cell, model, metric, before, now, tolerance, verdict)


def _verdict(before: float, now: float, tolerance: float) -> Verdict:
    """A score that became undefined fell; one that was undefined and is defined now rose."""
    if math.isnan(before) or math.isnan(now):
        if math.isnan(before) and math.isnan(now):
            return "same"
        return "fell" if math.isnan(now) else "rose"
    if now < before - tolerance:
        return "fell"
    return "rose" if now > before + tolerance else "same"


def _alone(result: Result, model: str, verdict: Verdict, reason: str = "") -> Change:
    value = result.main.value if result.main else math.nan
    before, now = (value, math.nan) if verdict == "missing" else (math.nan, value)
    return Change(result.cell, model, result.metric, before, now, 0.0, verdict, reason)


def junit(changes: Iterable[Change]) -> str:
    """The comparison as JUnit XML, one test case per cell and metric."""
    listed = list(changes)
    closing = failed(listed)
    suite = ElementTree.Element(
        "testsuite", name="g2dbench regress", tests=str(len(listed)), failures=str(len(closing))
    )
    for change in listed:
        case = ElementTree.SubElement(suite, "testcase", classname=change.name, name=change.metric)
        if change in closing:
            text = f"{change.verdict}: {change.before:.4f} -> {change.now:.4f}, "
            ElementTree.SubElement(
                case, "failure", message=f"{text}tolerance {change.tolerance:g} {change.reason}"
            )
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
