"""g2dbench's own report cleaning, before a text encoder sees a report.

Removed: section headings, de-identification marks (XXXX, ___), numbers of lists; white space and
punctuation are tidied. Case and sentences stay. The stored report is never changed.
"""

import re

_HEADINGS = re.compile(r"\b(?:findings?|impressions?|comparison|indication)\s*:", re.IGNORECASE)
_MARKS = re.compile(r"[\w'/-]*(?:X{4,}|_{3,})[\w'/-]*")
_LIST_NUMBER = re.compile(r"([.:;,!?]?)(^|\s)\(?\d{1,2}[.)]\s+(?=[A-Z])")
_STOPS = re.compile(r"\s*([.;:,!?])(?:\s*[.;:,!?])+")
_GAPS = re.compile(r"\s+([.;:,!?])")


def clean_report(text: str | None) -> str | None:
    """A report as sentences of one line; None where no word is left.

    A list number after a sentence without a full stop ends that sentence: "effusions 2. Opacity"
    becomes "effusions. Opacity".
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
    mark, gap = match.groups()
    return f"{mark or '.'} " if gap else ""
