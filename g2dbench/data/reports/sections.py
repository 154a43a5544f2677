"""Sections of a radiology report: findings, impression, comparison, last paragraph.

There are two kinds of text. A report file of MIMIC-CXR, in which every line begins with a space, is
split exactly as by MIT-LCP/mimic-cxr `txt/section_parser.py` (also in HKU-MedAI/MGCA
`mgca/preprocess/utils.py`), which MGCA and G2D use. Any other text is split at headings such as
`Findings:` at any position; a text without heading is a caption, and all of it counts as findings.

One difference: the original has special rules for 54 studies listed by name, which are then missing
in the table of MGCA; here they are split like all others.
"""

import re
from collections.abc import Mapping

FINDINGS, IMPRESSION, COMPARISON = "findings", "impression", "comparison"
LAST_PARAGRAPH = "last_paragraph"

_FILE_HEADING = re.compile(r"\n ([A-Z ()/,-]+):\s")
_HEADING = re.compile(
    r"(?<!\S)(findings?|impressions?|conclusions?|comparisons?|indications?|history|technique)\s*:",
    re.IGNORECASE,
)
_PARAGRAPH = "\n \n"

_MISSPELLED = {
    IMPRESSION: (
        "conclusion, ndication, impresson, imprression, imoression, impressoin, imprssion, "
        "impresion, imperssion, mpression, impession"
    ),
    FINDINGS: "finding, findins, findindgs, findgings, findngs, findnings, finidngs",
    COMPARISON: "reference exam, comparision, comparsion, comparrison, comparisions",
}
"""Misspelled and alternative headings of MIMIC-CXR, by section."""

_SPELLINGS = {word: name for name, words in _MISSPELLED.items() for word in words.split(", ")}

_NAMES = (IMPRESSION, FINDINGS, "history", COMPARISON, "addendum")
"""A heading that contains one of these, the first in this order, names that section."""

_STUDY_NAME = re.compile(
    "chest|portable|(?:pa|ap) and lateral|lateral and (?:pa|ap)|frontal and|two views|"
    "(?:frontal|pa|ap|lateral) view|one view|bone window|frontal (?:semi-)?upright|ribs|pa and lat"
)
"""A heading that only names the study is taken as the heading of the findings."""


def is_report_file(text: str) -> bool:
    """Whether a text is formatted like a file of MIMIC-CXR: a line begins with a space."""
    return "\n " in text


def parse_sections(text: str) -> Mapping[str, str]:
    """Map section names to their stripped text; of sections with the same name the last is used.

    Empty findings and impressions are ignored. If there is neither, `last_paragraph` is the last
    section without its first paragraph.
    """
    parts = _split_file(text) if is_report_file(text) else _split_text(text)
    parts = [part for part in parts if part[0] not in (FINDINGS, IMPRESSION) or part[1].strip()]
    found = dict(parts)
    if FINDINGS not in found and IMPRESSION not in found and parts:
        name, body = parts[-1]
        first, separator, rest = body.partition(_PARAGRAPH)
        if separator:
            found |= {name: first, LAST_PARAGRAPH: rest}
    return {name: body.strip() for name, body in found.items()}


def _split_file(text: str) -> list[tuple[str, str]]:
    """Return (name, text) of the sections of a report file, in order.

    The text before the first heading is "preamble"; a text without heading is "full report".
    """
    heads = []
    head = _FILE_HEADING.search(text)
    while head:
        heads.append(head)
        # A second heading on the same line belongs to the text of the first.
        line_end = text.find("\n", head.end())
        head = _FILE_HEADING.search(text, max(line_end, head.end()))
    if not heads:
        return [("full report", text)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    bodies = [text[head.end() : end] for head, end in zip(heads, ends, strict=True)]
    names = [_section_name(head[1].lower().strip()) for head in heads]
    return [("preamble", text[: heads[0].start(1)]), *zip(names, bodies, strict=True)]


def _section_name(heading: str) -> str:
    """The section that a lower-case heading names; the heading itself if it is unknown."""
    if heading in _SPELLINGS:
        return _SPELLINGS[heading]
    known = next((name for name in _NAMES if name in heading), None)
    return known or (FINDINGS if _STUDY_NAME.search(heading) else heading)


def _split_text(text: str) -> list[tuple[str, str]]:
    """Return (name, text) of the sections of any other text, in order."""
    heads = list(_HEADING.finditer(text))
    if not heads:
        return [(FINDINGS, text.strip())]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        (_section_name(head[1].lower()), text[head.end() : end].strip())
        for head, end in zip(heads, ends, strict=True)
    ]
