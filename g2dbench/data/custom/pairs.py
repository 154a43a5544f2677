"""The user's image-text pairs: a table of image paths and texts; no code.

    any.csv (.tsv, .parquet)    one row per image: its path from the root, its text; optionally
                                patient, study, view, sex, age, split

Columns are given by options or found by name, see `_table`; the summary says which are used.
Without a patient column, each image counts as a patient of its own, so that images of one person
can be in different splits.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from g2dbench.cards import DatasetCard
from g2dbench.data.custom._table import Table, open_table
from g2dbench.data.tables.columns import shortened
from g2dbench.data.tables.files import check_layout, is_present
from g2dbench.data.tables.paths import locate, portable
from g2dbench.data.tables.records import Found, Missing, Note, Rejected
from g2dbench.errors import BadData

CARD = DatasetCard(
    name="pairs",
    summary="Your own image-text pairs: a CSV or Parquet table of image paths and texts.",
    offers=("reports",),
    findings=(),
    url="your own folder",
    licence="your own",
    layout=("one table of image paths and texts",),
    options=("table", "image", "text", "patient", "study", "view", "sex", "age", "split"),
    generic=True,
)


def describe(root: Path, options: Mapping[str, str]) -> DatasetCard:
    """Return the card of the pairs in a root; Misuse or BadData as in `open_table`."""
    table = _open(root, options)
    columns, hint = table.describe(), patient_hint(table)
    return DatasetCard(
        name=CARD.name,
        summary=f"Image-text pairs of {table.path.name} ({columns}).{hint}",
        offers=CARD.offers,
        findings=(),
        url=CARD.url,
        licence=CARD.licence,
    )


def read(root: Path, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield one record per row of the table; a row without text has no report."""
    table = _open(root, options)
    if others := table.unused():
        yield Note(f"columns of {table.path.name} that are not used: {shortened(others)}")
    for row in table.rows():
        name = table.get(row, "image")
        if name is None:
            yield Rejected(table.where(row), None, f"{table.where(row)}: no image")
            continue
        path = locate(root, name)
        if not is_present(path):
            yield Missing(portable(name), path)
            continue
        try:
            yield table.record(row, path)
        except BadData as error:
            yield Rejected(name, path, str(error))


def patient_hint(table: Table) -> str:
    """Return a sentence for the summary if the table has no column of patients, else ""."""
    if "patient" in table.columns:
        return ""
    return " No column names the patient: each image counts as a patient of its own."


def _open(root: Path, options: Mapping[str, str]) -> Table:
    check_layout(root)
    return open_table(root, options, ("image", "text"))
