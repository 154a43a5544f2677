"""What of a report a text encoder gets to read: our cleaning, and the published ones by name.

The store keeps reports as their owners wrote them; a recipe chooses (`[data] cleaning`). Each rule
takes a whole report and gives its text, or none and the reason. How sections are found, also in
reports that are not laid out as MIMIC-CXR's files, is said in `sections`. Which views and which
split a publication used is the recipe's and the split's affair.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from g2dbench.data.reports.sections import (
    FINDINGS,
    IMPRESSION,
    LAST_PARAGRAPH,
    is_report_file,
    parse_sections,
)
from g2dbench.data.reports.tidy import clean_report
from g2dbench.sample import is_frontal

CleaningName = Literal["g2dbench", "mgca", "g2d-code", "chexzero", "raw"]
DEFAULT: CleaningName = "g2dbench"

KEPT, OTHER_VIEW, NO_REPORT = "kept", "another view than frontal", "no report"
NO_SECTION = "neither findings nor impression"
NOTHING_LEFT = "nothing left after cleaning"
TOO_SHORT = "fewer than 3 words"
NO_IMPRESSION = "NO IMPRESSION"
"""What CheXzero's code trains on where a report has no impression."""

_TO_PARAGRAPH = NO_SECTION + " nor a last paragraph"
_LIST_NUMBER = re.compile(r"[0-9]+\.")
_WORD = re.compile(r"\w+")
_G2D_LITERALS = (
    "IMPRESSSION:",
    "IMPRESSSION",
    "FINDINGS:",
    "FINDINGS",
    "COMPARISON:  ___",
    "COMPARISON:",
    "COMPARISON",
)
_RECOMMENDATION = ("RECOMMENDATION(S):", "RECOMMENDATION:", "RECOMMENDATIONS:")
_NOTIFICATION = ("NOTIFICATION:", "NOTIFICATIONS:")


class Cleaned(NamedTuple):
    """A report's text, None where the rule drops it; fate is KEPT or why it fell out."""

    text: str | None
    fate: str


def g2dbench(report: str) -> Cleaned:
    """Ours: findings, then impression, as tidy sentences (`report.clean_report`); case is kept.

    Of a MIMIC-CXR file only these sections are read, its last paragraph where it has neither. Any
    other report is taken whole: its headings are removed, indication and comparison stay.
    """
    if not is_report_file(report):
        return _kept(clean_report(report), NOTHING_LEFT)
    found = parse_sections(report)
    parts = [found[name] for name in (FINDINGS, IMPRESSION) if name in found]
    parts = parts or [part for part in (found.get(LAST_PARAGRAPH),) if part]
    if not parts:
        return Cleaned(None, _TO_PARAGRAPH)
    return _kept(clean_report(". ".join(parts)), NOTHING_LEFT)


def mgca(report: str) -> Cleaned:
    """MGCA: impression, then findings, lower case, no punctuation, at least 3 words.

    Split at list numbers (`[0-9]+\\.`), then at full stops; a sentence is its `\\w+` words without
    what is not ASCII; sentences of one word fall out; all are joined by spaces. Source:
    HKU-MedAI/MGCA at 680fe4a, mgca/datasets/pretrain_dataset.py.
    """
    text = _impression_then_findings(report, " ")
    if text is None:
        return Cleaned(None, NO_SECTION)
    points = _LIST_NUMBER.split(text.replace("\n", " "))
    sentences = [_words(sentence) for point in points for sentence in point.split(".")]
    if sum(map(len, sentences)) < 3:
        return Cleaned(None, TOO_SHORT)
    return Cleaned(" ".join(" ".join(words) for words in sentences if words), KEPT)


def _words(sentence: str) -> list[str]:
    words = _WORD.findall(sentence.replace("\ufffd\ufffd", " ").lower())
    if len(words) <= 1:
        return []
    plain = (word.encode("ascii", "ignore").decode("ascii") for word in words)
    return [word for word in plain if word]


def g2d_code(report: str) -> Cleaned:
    """G2D's released code: impression and findings in a row, a few literals and numbers removed.

    The two sections are joined without a space. It removes "IMPRESSSION" (so spelt, so that the
    real word stays), "FINDINGS" and "COMPARISON", and of the pieces between full stops those that
    are digits only. Source: cheliu-computation/G2D-NeurIPS24 at 30364bd, PRETRAIN/utils/dataset.py,
    on MGCA's table, where a section that is missing is one space. MGCA's 3 words are not asked for.
    """
    text = _impression_then_findings(report, "")
    if text is None:
        return Cleaned(None, NO_SECTION)
    for literal in _G2D_LITERALS:
        text = text.replace(literal, "")
    pieces = text.split(".")
    if len(pieces) > 1:
        stripped = (piece.strip() for piece in pieces)
        text = ". ".join(piece for piece in stripped if not piece.isdigit())
    return _kept(text if text.strip(" .\n") else None, NOTHING_LEFT)


def _impression_then_findings(report: str, between: str) -> str | None:
    """Both sections as in MGCA's table, a space for a missing one; None where both are."""
    found = parse_sections(report)
    if IMPRESSION not in found and FINDINGS not in found:
        return None
    return found.get(IMPRESSION, " ") + between + found.get(FINDINGS, " ")


def chexzero(report: str) -> Cleaned:
    """CheXzero: the words after the last "IMPRESSION:", up to recommendation or notification.

    A report without that heading is trained on as "NO IMPRESSION", as the code does; an empty
    impression, there one space, falls out. Source: rajpurkarlab/CheXzero at 5c341db,
    data_process.py. In a report that is no MIMIC-CXR file the heading counts in any case.
    """
    if not is_report_file(report):
        text = parse_sections(report).get(IMPRESSION, NO_IMPRESSION)
        return _kept(" ".join(text.split()) or None, NOTHING_LEFT)
    words = report.split()
    if "IMPRESSION:" not in words:
        return Cleaned(NO_IMPRESSION, KEPT)
    begin = len(words) - words[::-1].index("IMPRESSION:")
    ends = [_first(words, names) for names in (_RECOMMENDATION, _NOTIFICATION)]
    impression = words[begin : min((end for end in ends if end), default=None)]
    return _kept(" ".join(impression) or None, NOTHING_LEFT)


def _first(words: list[str], names: tuple[str, ...]) -> int | None:
    """Where the first of these names that occurs at all stands first."""
    return next((words.index(name) for name in names if name in words), None)


def raw(report: str) -> Cleaned:
    """The stored report unchanged, headings and marks included, as MRM reads it."""
    return _kept(report if report.strip() else None, NOTHING_LEFT)


def _kept(text: str | None, otherwise: str) -> Cleaned:
    return Cleaned(text, KEPT if text else otherwise)


CLEANINGS: Mapping[CleaningName, Callable[[str], Cleaned]] = {
    "g2dbench": g2dbench,
    "mgca": mgca,
    "g2d-code": g2d_code,
    "chexzero": chexzero,
    "raw": raw,
}


def clean(report: str | None, name: CleaningName) -> Cleaned:
    """A stored report by the named rule."""
    return Cleaned(None, NO_REPORT) if report is None else CLEANINGS[name](report)


def count_pairs(
    pairs: Iterable[tuple[str | None, str | None]], name: CleaningName
) -> dict[str, int]:
    """(view, report) pairs by their fate, in the order of the steps: what falls out, then KEPT.

    As in training, views other than frontal fall out first.
    """
    fates = Counter(
        clean(report, name).fate if is_frontal(view) else OTHER_VIEW for view, report in pairs
    )
    reasons = sorted(fates.keys() - {OTHER_VIEW, NO_REPORT, KEPT})
    return {fate: fates[fate] for fate in (OTHER_VIEW, NO_REPORT, *reasons, KEPT)}


def describe_steps(fates: Mapping[str, int]) -> str:
    """`count_pairs` for people: how many pairs each step leaves, and why the others fell out."""
    left = sum(fates.values())
    steps = [f"{left} images"]
    for fate, count in fates.items():
        if fate != KEPT:
            left -= count
            steps.append(f"{left} left without {count} ({fate})")
    return ", ".join(steps)
