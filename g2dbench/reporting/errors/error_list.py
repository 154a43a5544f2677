"""The worst misses and false positives of one result, as a table and as panels of a sheet."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from g2dbench.errors import BadResult, Misuse
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.figures.overlay import Panel
from g2dbench.registry import unknown_name
from g2dbench.reporting.errors.case_overlays import Films, overlay_of
from g2dbench.reporting.errors.cases import Case, find_cases
from g2dbench.reporting.stored_results import StoredResult

COLUMNS = ("kind", "rank", "id", "patient", "finding", "measure", "value")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters with which a spreadsheet takes a text for a formula."""


@dataclass(frozen=True)
class ErrorList:
    """Misses, then false positives, the worst of each kind first; `table`: the predictions."""

    cases: tuple[Case, ...]
    table: pd.DataFrame


def worst_errors(stored: StoredResult, finding: str | None, top: int) -> ErrorList:
    """At most `top` misses and `top` false positives; finding: None for all findings.

    BadResult without stored predictions, or or cases; Misuse for an unknown finding.
    """
    if (path := stored.predictions()) is None:
        raise BadResult(
            f"{stored.folder} has no predictions of this result: run the cell again with --rerun"
        )
    table = read_predictions(path)
    cases = find_cases(table)
    known = sorted(str(name) for name in table["finding"].unique())
    if finding is not None and finding not in known:
        raise Misuse(unknown_name("finding of this result", finding, known))
    chosen: list[Case] = []
    for kind in ("miss", "false positive"):
        of_kind = [case for case in cases if case.kind == kind]
        chosen += [case for case in of_kind if finding in (None, case.finding)][:top]
    return ErrorList(tuple(chosen), table)


def to_csv(cases: Sequence[Case]) -> str:
    """One line per case; texts that a spreadsheet would run as a formula start with '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    ranks: dict[str, int] = {}
    for case in cases:
        ranks[case.kind] = ranks.get(case.kind, 0) + 1
        texts = [_inert(each) for each in (case.id, case.patient, case.finding)]
        value = f"{case.value:.6g}"
        writer.writerow([case.kind, ranks[case.kind], *texts, case.measure, value])
    return out.getvalue()


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def panels(errors: ErrorList, films: Films) -> list[Panel]:
    """A panel per case. BadData or BadResult if the images are not those of the result."""
    found = []
    for case in errors.cases:
        sample = films.sample(case.id)
        record = dict(errors.table.iloc[case.row])
        found.append(
            Panel(
                sample.image,
                overlay_of(case, record, sample),
                f"{case.kind}: {case.finding}",
                f"{case.measure} {case.value:.3g}  {case.id}",
            )
        )
    return found
