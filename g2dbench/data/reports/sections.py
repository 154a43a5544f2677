"""Sections of a radiology report: findings, impression, comparison, last paragraph.

Two kinds of text. A report file of MIMIC-CXR, whose lines all begin with a space, is split exactly
as by MIT-LCP/mimic-cxr `txt/section_parser.py` (vendored in HKU-MedAI/MGCA
`mgca/preprocess/utils.py`), which MGCA and G2D stand on. Any other text is split at headings such
as `Findings:` wherever they stand; without one it is a caption, and all of it findings.

Where we differ: the original has rules of its own for 54 named studies, which MGCA's table then
lacks; here they are split like all others.
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

_MISSPELT = {
    IMPRESSION: (
        "conclusion, ndication, impresson, imprression, imoression, impressoin, imprssion, "
        "impresion, imperssion, mpression, impession"
    ),
    FINDINGS: "finding, findins, findindgs, findgings, findngs, findnings, finidngs",
    COMPARISON: "reference exam, comparision, comparsion, comparrison, comparisions",
}
"""Headings whose section their letters do not show, as they occur in MIMIC-CXR."""

_SPELLINGS = {word: name for name, words in _MISSPELT.items() for word in words.split(", ")}

_NAMES = (IMPRESSION, FINDINGS, "history", COMPARISON, "addendum")
"""A heading that holds one of these, the first in this order, is that section."""

_STUDY = re.compile(
    "chest|portable|(?:pa|ap) and lateral|lateral and (?:pa|ap)|frontal and|two views|"
    "(?:frontal|pa|ap|lateral) view|one view|bone window|frontal (?:semi-)?upright|ribs|pa and lat"
)
"""A heading that only names the study stands over its findings."""


def is_report_file(text: str) -> bool:
    """Whether a text is laid out like a file of MIMIC-CXR: lines that begin with a space."""
    return "\n " in text


def parse_sections(text: str) -> Mapping[str, str]:
    """Section name -> its text, stripped; of sections with one name the last counts.

    Empty findings and impressions are as if they were not there. `last_paragraph` exists where
    there is neither: the last section without its first paragraph.
    """
    parts = _split_file(text) if is_report_file(text) else _split_text(text)
    parts = [part for part in parts if part[0] not in (FINDINGS, IMPRESSION) or part[1].strip()]
    found = dict(parts)
    if FINDINGS not in found and IMPRESSION not in found and parts:
        name, body = parts[-1]
        first, gap, rest = body.partition(_PARAGRAPH)
        if gap:
            found |= {name: first, LAST_PARAGRAPH: rest}
    return {name: body.strip() for name, body in found.items()}


def _split_file(text: str) -> list[tuple[str, str]]:
    """Sections in order; the text before the first heading, or all, has a name of its own."""
    heads = []
    head = _FILE_HEADING.search(text)
    while head:
        heads.append(head)
        # A heading directly after another one, on its line, belongs to the first one's text.
        line_end = text.find("\n", head.end())
        head = _FILE_HEADING.search(text, max(line_end, head.end()))
    if not heads:
        return [("full report", text)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    bodies = [text[head.end() : end] for head, end in zip(heads, ends, strict=True)]
    names = [_name(head[1].lower().strip()) for head in heads]
    return [("preamble", text[: heads[0].start(1)]), *zip(names, bodies, strict=True)]


def _name(heading: str) -> str:
    if heading in _SPELLINGS:
        return _SPELLINGS[heading]
    named = next((name for name in _NAMES if name in heading), None)
    return named or (FINDINGS if _STUDY.search(heading) else heading)


def _split_text(text: str) -> list[tuple[str, str]]:
    heads = list(_HEADING.finditer(text))
    if not heads:
        return [(FINDINGS, text.strip())]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        (_name(head[1].lower()), text[head.end() : end].strip())
        for head, end in zip(heads, ends, strict=True)
    ]
