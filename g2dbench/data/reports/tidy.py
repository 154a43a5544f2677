"""The report cleaning of g2dbench, applied before a text encoder reads a report.

It removes section headings, de-identification marks (XXXX, ___) and list numbers, and normalizes
white space and punctuation. Case and sentences are preserved. The stored report is not changed.
"""

import re

_HEADINGS = re.compile(r"\b(?:findings?|impressions?|comparison|indication)\s*:", re.IGNORECASE)
_MARKS = re.compile(r"[\w'/-]*(?:X{4,}|_{3,})[\w'/-]*")
_LIST_NUMBER = re.compile(r"([.:;,!?]?)(^|\s)\(?\d{1,2}[.)]\s+(?=[A-Z])")
_STOPS = re.compile(r"\s*([.;:,!?])(?:\s*[.;:,!?])+")
_GAPS = re.compile(r"\s+([.;:,!?])")


def clean_report(text: str | None) -> str | None:
    """Return the sentences of a report on one line; None if no word remains.

    A list number that follows a sentence without full stop ends this sentence: "effusions 2.
    Opacity" becomes "effusions. Opacity".
    """
    if text is None:
        return None
    text = _HEADINGS.sub(" ", text)
    text = " ".join(_MARKS.sub(" ", text).split())
    text = _LIST_NUMBER.sub(_end_sentence, text)
    text = _STOPS.sub(r"\1", text)
    text = _GAPS.sub(r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .;:,!?-") + "."
    return text if re.search(r"[^\W\d_]{2}", text) else None


def _end_sentence(match: re.Match[str]) -> str:
    """Replace a list number by the end of the sentence before it, if there is one."""
    mark, gap = match.groups()
    return f"{mark or '.'} " if gap else ""
