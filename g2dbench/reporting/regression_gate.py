"""CI regression on scores: pair the cells of two result folders and judge each metric.

A cell is paired by everything in `Cell`: model, task, data, protocol, fraction, seeds, limit. Cells
on other data or another subset are refused, not compared. Higher is better for every metric.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from g2dbench.errors import BadResult, Misuse
from g2dbench.result import Cell, Result

Verdict = Literal["same", "rose", "fell", "new", "missing"]
DEFAULT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Change:
    """One metric of one cell, before and now; NaN where there is none."""

    cell: Cell
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
        return f"{cell.model} {cell.task}:{cell.protocol} {cell.data} {share} {seeds}"


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
        one, other = old.get(key), new.get(key)
        if one is None:
            assert other is not None
            changes.append(_alone(other, "new"))
        elif other is None or other.status != "done":
            changes.append(_alone(one, "missing", (other and other.reason) or "not run"))
        else:
            _refuse_unlike(one, other)
            changes += [_judge(one, other, name, tolerances) for name in _watched(one, tolerances)]
    return changes


def failed(changes: Iterable[Change]) -> list[Change]:
    """What closes the gate: a score that fell beyond its tolerance, or one that is missing."""
    return [change for change in changes if change.verdict in ("fell", "missing")]


def _by_cell(results: Iterable[Result]) -> dict[str, Result]:
    """The newest result of each cell."""
    ordered = sorted(results, key=lambda result: result.provenance.created)
    return {result.cell.model_dump_json(): result for result in ordered}


def _refuse_unlike(before: Result, now: Result) -> None:
    for name in ("data", "subset"):
        one, other = getattr(before.provenance, name), getattr(now.provenance, name)
        if one != other:
            raise BadResult(
                f"{_alone(now, 'new').name} cannot be compared: the baseline's {name} is "
                f"{one[:12]}, today's is {other[:12]}; make a new baseline on the same {name}"
            )


def _watched(result: Result, tolerances: Mapping[str, float]) -> list[str]:
    return [n for n in result.scores if n == result.metric or n in tolerances]


def _judge(one: Result, other: Result, metric: str, tolerances: Mapping[str, float]) -> Change:
    before = one.scores[metric].value
    score = other.scores.get(metric)
    now = math.nan if score is None else score.value
    tolerance = tolerances.get(metric, tolerances[""])
    return Change(other.cell, metric, before, now, tolerance, _verdict(before, now, tolerance))


def _verdict(before: float, now: float, tolerance: float) -> Verdict:
    """A score that became undefined fell; one that was undefined and is defined now rose."""
    if math.isnan(before) or math.isnan(now):
        if math.isnan(before) and math.isnan(now):
            return "same"
        return "fell" if math.isnan(now) else "rose"
    if now < before - tolerance:
        return "fell"
    return "rose" if now > before + tolerance else "same"


def _alone(result: Result, verdict: Verdict, reason: str = "") -> Change:
    value = result.main.value if result.main else math.nan
    before, now = (value, math.nan) if verdict == "missing" else (math.nan, value)
    return Change(result.cell, result.metric, before, now, 0.0, verdict, reason)


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
