"""A suite: a list of rows (task, protocol, data sets, fractions) that are evaluated together.

A suite is a TOML file, one of those in this folder or the user's own:

    summary = "One sentence."
    source = "Where the rows come from."

    [[rows]]
    title = "Table 1: detection"
    task = "det"
    protocol = "g2d"
    data = ["rsna@mgca-det"]
    fractions = [0.01, 0.1, 1.0]
    settings = ["fit.epochs=20"]   # changes of the protocol, as `--set`; may be left out
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from g2dbench.data import opening
from g2dbench.errors import G2DBenchError, Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.sweep.grid import Grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.field_errors import sentences
from g2dbench.registry import unknown_name
from g2dbench.system.bounded_files import MAX_TOML_BYTES, parse_toml, read_text

FOLDER = Path(__file__).parent


Fraction = Annotated[float, Field(gt=0, le=1)]


class SuiteRow(BaseModel):
    """One row: a task under one protocol, on several data sets and fractions.

    data: as in `--data`. fractions: shares of the training patients; ignored by zero-shot tasks.
    settings: `FIELD=VALUE` changes of the protocol, as `--set`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    task: str
    protocol: str
    data: tuple[str, ...] = Field(min_length=1, strict=False)
    fractions: tuple[Fraction, ...] = Field(default=(1.0,), min_length=1, strict=False)
    settings: tuple[str, ...] = Field(default=(), strict=False)


class Suite(BaseModel):
    """A named list of rows; name: that of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    summary: str
    source: str = ""
    rows: tuple[SuiteRow, ...] = Field(min_length=1, strict=False)


@dataclass(frozen=True)
class SuiteCell:
    """A cell of a suite and the title of its row."""

    title: str
    spec: CellSpec


@dataclass(frozen=True)
class Skipped:
    """A row, or one of its data sets, that cannot be evaluated here, and the reason."""

    title: str
    data: str
    reason: str


def suite_names() -> list[str]:
    """The suites that come with g2dbench."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_suite(name: str) -> Suite:
    """A suite by its name or by its file; Misuse for an unknown name and a broken file."""
    path = FOLDER / f"{name}.toml" if name in suite_names() else Path(name)
    if not path.is_file():
        raise Misuse(
            f"{unknown_name('suite', name, suite_names())}; a suite of your own is a TOML file"
        )
    try:
        raw = parse_toml(read_text(path, MAX_TOML_BYTES))
        return Suite.model_validate({"name": path.stem, **raw})
    except ValidationError as error:
        raise Misuse(f"{path} is not a suite: {sentences(error, _unknown_field)}") from error
    except (OSError, ValueError) as error:
        raise Misuse(f"{path} cannot be read as a suite: {error}") from error


def _unknown_field(path: Sequence[str]) -> str:
    table, noun = (SuiteRow, "field of a row") if len(path) > 1 else (Suite, "field of a suite")
    return unknown_name(noun, path[-1], [name for name in table.model_fields if name != "name"])


def suite_cells(
    suite: Suite,
    template: Grid,
    bench: Workbench,
    *,
    data: Sequence[str] = (),
    tasks: Sequence[str] = (),
    fractions: Sequence[float] = (),
) -> tuple[list[SuiteCell], list[Skipped]]:
    """The cells of a suite, ordered by model, and what is skipped because it is not available.

    template: models, seeds and all other settings of the cells. data: evaluate every row on these
    data sets instead of its own. tasks: only rows of these tasks. fractions: instead of a row's.
    """
    known = {row.task for row in suite.rows}
    if wrong := [name for name in tasks if name not in known]:
        raise Misuse(unknown_name(f"task of the suite {suite.name}", wrong[0], sorted(known)))
    cells: list[SuiteCell] = []
    skipped: list[Skipped] = []
    for row in suite.rows:
        if tasks and row.task not in tasks:
            continue
        for name in data or row.data:
            try:
                _check_data(name, template, bench)
                grid = replace(
                    template,
                    datasets=[name],
                    tasks=[row.task],
                    protocol=row.protocol,
                    fractions=fractions or row.fractions,
                    changes=[*row.settings, *template.changes],
                )
                cells += [SuiteCell(row.title, spec) for spec in grid.cells(bench)]
            except G2DBenchError as error:
                skipped.append(Skipped(row.title, name, str(error)))
    order = {model: number for number, model in enumerate(template.models)}
    cells.sort(key=lambda cell: (order[cell.spec.model], cell.spec.model_seed))
    return cells, skipped


def _check_data(name: str, template: Grid, bench: Workbench) -> None:
    """Raise the reason if a data set is not prepared; one that is opened once stays open."""
    if not bench.has_dataset(name):
        assert template.store is not None
        store = opening.open_prepared(name, template.store, bench.registry, size=template.size)
        bench.add_dataset(name, store)
