"""Report cleaning by name: the text of a report that a text encoder reads.

The store contains the original reports; a recipe selects a cleaning (`[data] cleaning`): our own
or that of a publication. Each cleaning takes a whole report and returns its text, or None and the
reason. `sections` describes how sections are found, also in reports that are not formatted
like the files of MIMIC-CXR. A cleaning does not select views or splits; the recipe does.
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
"""The text on which the code of CheXzero trains if a report has no impression."""

_NO_PARAGRAPH = NO_SECTION + " nor a last paragraph"
_LIST_NUMBER = re.compile(r"[0-9]+\.")
_WORD = re.compile(r"\w+")
_G2D_REMOVED_LITERALS = (
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
    """A cleaned report: its text, None if it is dropped; outcome is KEPT or the reason."""

    text: str | None
    outcome: str


def g2dbench(report: str) -> Cleaned:
    """The cleaning of g2dbench: findings, then impression, tidied by `tidy.clean_report`.

    Upper and lower case are preserved. Of a file of MIMIC-CXR only these two sections are used, or
    the last paragraph if it has neither. Any other report is used completely, indication and
    comparison included; only its headings are removed.
    """
    if not is_report_file(report):
        return _cleaned(clean_report(report), NOTHING_LEFT)
    found = parse_sections(report)
    parts = [found[name] for name in (FINDINGS, IMPRESSION) if name in found]
    parts = parts or [part for part in (found.get(LAST_PARAGRAPH),) if part]
    if not parts:
        return Cleaned(None, _NO_PARAGRAPH)
    return _cleaned(clean_report(". ".join(parts)), NOTHING_LEFT)


def mgca(report: str) -> Cleaned:
    """The cleaning of MGCA: impression, then findings, in lower case, without punctuation.

    The text is split at list numbers (`[0-9]+\\.`) and then at full stops. Each sentence is reduced
    to its `\\w+` words without non-ASCII characters; sentences of one word are dropped; all others
    are joined by spaces. A report of fewer than 3 words is dropped. Source: HKU-MedAI/MGCA at
    680fe4a, mgca/datasets/pretrain_dataset.py.
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
    """The lower-case ASCII words of a sentence; none if it has one word."""
    words = _WORD.findall(sentence.replace("\ufffd\ufffd", " ").lower())
    if len(words) <= 1:
        return []
    plain = (word.encode("ascii", "ignore").decode("ascii") for word in words)
    return [word for word in plain if word]


def g2d_code(report: str) -> Cleaned:
    """The cleaning of G2D's released code: impression directly followed by findings.

    The two sections are joined without a space. The code removes "FINDINGS", "COMPARISON" and
    "IMPRESSSION" (misspelled there, so that the real word remains), and every piece between full
    stops that consists of digits. It reads the table of MGCA, where a missing section is one space,
    but does not require 3 words. Source: cheliu-computation/G2D-NeurIPS24 at 30364bd,
    PRETRAIN/utils/dataset.py.
    """
    text = _impression_then_findings(report, "")
    if text is None:
        return Cleaned(None, NO_SECTION)
    for literal in _G2D_REMOVED_LITERALS:
        text = text.replace(literal, "")
    pieces = text.split(".")
    if len(pieces) > 1:
        stripped = (piece.strip() for piece in pieces)
        text = ". ".join(piece for piece in stripped if not piece.isdigit())
    return _cleaned(text if text.strip(" .\n") else None, NOTHING_LEFT)


def _impression_then_findings(report: str, between: str) -> str | None:
    """Join both sections as in MGCA's table: a missing one is a space; None if both are missing."""
    found = parse_sections(report)
    if IMPRESSION not in found and FINDINGS not in found:
        return None
    return found.get(IMPRESSION, " ") + between + found.get(FINDINGS, " ")


def chexzero(report: str) -> Cleaned:
    """The cleaning of CheXzero: the text from the last "IMPRESSION:" to the next known heading.

    The text ends at a recommendation or notification. A report without the heading becomes "NO
    IMPRESSION", as in the code; an empty impression, which is one space there, is dropped. In a
    report that is not a file of MIMIC-CXR, the heading is found in any case. Source:
    rajpurkarlab/CheXzero at 5c341db, data_process.py.
    """
    if not is_report_file(report):
        text = parse_sections(report).get(IMPRESSION, NO_IMPRESSION)
        return _cleaned(" ".join(text.split()) or None, NOTHING_LEFT)
    words = report.split()
    if "IMPRESSION:" not in words:
        return Cleaned(NO_IMPRESSION, KEPT)
    begin = len(words) - words[::-1].index("IMPRESSION:")
    ends = [_find_first(words, names) for names in (_RECOMMENDATION, _NOTIFICATION)]
    impression = words[begin : min((end for end in ends if end), default=None)]
    return _cleaned(" ".join(impression) or None, NOTHING_LEFT)


def _find_first(words: list[str], names: tuple[str, ...]) -> int | None:
    """The first position of the first of these names that occurs; None if none does."""
    return next((words.index(name) for name in names if name in words), None)


def raw(report: str) -> Cleaned:
    """The stored report unchanged, with headings and de-identification marks, as MRM reads it."""
    return _cleaned(report if report.strip() else None, NOTHING_LEFT)


def _cleaned(text: str | None, reason: str) -> Cleaned:
    return Cleaned(text, KEPT if text else reason)


CLEANINGS: Mapping[CleaningName, Callable[[str], Cleaned]] = {
    "g2dbench": g2dbench,
    "mgca": mgca,
    "g2d-code": g2d_code,
    "chexzero": chexzero,
    "raw": raw,
}


def clean(report: str | None, name: CleaningName) -> Cleaned:
    """Clean a stored report with the named cleaning; None is dropped as NO_REPORT."""
    return Cleaned(None, NO_REPORT) if report is None else CLEANINGS[name](report)


def count_pairs(
    pairs: Iterable[tuple[str | None, str | None]], name: CleaningName
) -> dict[str, int]:
    """Count (view, report) pairs by outcome: dropped pairs in the order of the steps, then KEPT.

    As in training, views other than frontal are dropped first.
    """
    outcomes = Counter(
        clean(report, name).outcome if is_frontal(view) else OTHER_VIEW for view, report in pairs
    )
    reasons = sorted(outcomes.keys() - {OTHER_VIEW, NO_REPORT, KEPT})
    return {outcome: outcomes[outcome] for outcome in (OTHER_VIEW, NO_REPORT, *reasons, KEPT)}


def describe_steps(outcomes: Mapping[str, int]) -> str:
    """Describe `count_pairs`: how many pairs each step leaves, and why the others are dropped."""
    remaining = sum(outcomes.values())
    steps = [f"{remaining} images"]
    for outcome, count in outcomes.items():
        if outcome != KEPT:
            remaining -= count
            steps.append(f"{remaining} left without {count} ({outcome})")
    return ", ".join(steps)
