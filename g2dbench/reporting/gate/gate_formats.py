"""The outcome of the regression gate as JUnit XML, GitHub annotations and Markdown.

Names and reasons come from result files, that is from strangers: each format escapes them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from g2dbench.reporting.gate.regression_gate import VERDICTS, Change, failing


def count_verdicts(changes: Iterable[Change]) -> str:
    """`3 same, 1 fell`: the verdicts that occur, in the order of `VERDICTS`."""
    counts = Counter(change.verdict for change in changes)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def junit(changes: Iterable[Change]) -> str:
    """JUnit XML: one test case per cell and metric; cells that cannot be compared are errors."""
    listed = list(changes)
    wrong = {id(change) for change in failing(listed)}
    errors = [change for change in listed if change.verdict == "incomparable"]
    suite = ElementTree.Element(
        "testsuite",
        name="g2dbench regress",
        tests=str(len(listed)),
        failures=str(len(wrong)),
        errors=str(len(errors)),
    )
    for change in listed:
        names = {"classname": _xml_text(change.name), "name": _xml_text(change.metric)}
        case = ElementTree.SubElement(suite, "testcase", names)
        if id(change) in wrong:
            ElementTree.SubElement(case, "failure", message=_xml_text(_sentence(change)))
        elif change.verdict == "incomparable":
            ElementTree.SubElement(case, "error", message=_xml_text(_sentence(change)))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def github_annotations(changes: Iterable[Change]) -> list[str]:
    """One workflow command for each change that needs attention."""
    lines = []
    for change in changes:
        if change.verdict in ("fell", "missing", "failed", "incomparable"):
            lines.append(f"::error title=g2dbench regress::{_github_text(_sentence(change))}")
        elif change.verdict == "noise":
            lines.append(f"::warning title=g2dbench regress::{_github_text(_sentence(change))}")
    return lines


def markdown(changes: Sequence[Change]) -> str:
    """A summary with a table of all changes but the equal ones."""
    lines = ["## Score regression", "", count_verdicts(changes), ""]
    shown = [change for change in changes if change.verdict != "same"]
    if shown:
        lines += [
            "| cell | metric | before | now | tolerance | p | verdict |",
            "|---|---|---:|---:|---:|---:|---|",
        ]
        lines += [_markdown_row(change) for change in shown]
    return "\n".join(lines) + "\n"


def _markdown_row(change: Change) -> str:
    p_value = "" if change.p_value is None else f"{change.p_value:.3f}"
    verdict = f"{change.verdict}: {change.reason}" if change.reason else change.verdict
    cells = (
        change.name, change.metric, f"{change.before:.4f}", f"{change.now:.4f}",
        f"{change.tolerance:g}", p_value, verdict,
    )  # fmt: skip
    return f"| {' | '.join(_markdown_text(cell) for cell in cells)} |"


def _sentence(change: Change) -> str:
    numbers = f"{change.metric} {change.before:.4f} -> {change.now:.4f}"
    text = f"{change.name}: {change.verdict}, {numbers}, tolerance {change.tolerance:g}"
    if change.p_value is not None:
        text += f", p {change.p_value:.3f}"
    return f"{text}; {change.reason}" if change.reason else text


def _xml_text(text: str) -> str:
    """Text without the characters that XML 1.0 forbids."""
    return "".join(
        c if c in "\t\n\r" or 32 <= ord(c) < 0xD800 or ord(c) > 0xDFFF else "?" for c in text
    )


def _github_text(text: str) -> str:
    """Percent, line breaks and control characters, as GitHub's workflow commands ask for."""
    clean = "".join(c if c.isprintable() or c in "\r\n" else "?" for c in text)
    return clean.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _markdown_text(text: str) -> str:
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for character in "\\`*_{}[]<>#|":
        clean = clean.replace(character, f"\\{character}")
    return clean
