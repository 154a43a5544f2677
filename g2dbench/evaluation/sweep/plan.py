"""A plan: one or more grids of cells in a small TOML file.

    models = ["runs/g2d-tiny-s0", "random-init"]
    data = ["synthetic"]
    seeds = [0, 1, 2]

    [[grids]]
    tasks = ["cls"]
    protocols = ["sweep", "knn"]
    fractions = [0.01, 0.1, 1.0]

    [[grids]]
    tasks = ["zeroshot", "ground"]

What stands before the first `[[grids]]` holds for every grid that does not say otherwise. A plan
without `[[grids]]` is one grid. Paths are relative to the current folder, as on the command line.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from g2dbench.data.splits.fractions import Draw
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.sweep.grid import Grid, label_models
from g2dbench.evaluation.workbench import Workbench
from g2dbench.field_errors import sentences
from g2dbench.registry import unknown_name

MAX_BYTES = 1 << 20
MAX_CELLS = 1_000_000

Names = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, strict=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class GridTable(BaseModel):
    """One grid of a plan: the product of its lists; the fields mean what `Grid`'s mean.

    protocols: of every task of the grid; the task's first protocol if none is given. labels: one
    for each model, in the same order. set: `FIELD=VALUE` changes of the protocols' settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    models: Names
    tasks: Names
    data: Names
    protocols: Annotated[tuple[str, ...], Field(strict=False)] = ()
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1, strict=False)] = (1.0,)
    seeds: Seeds = (0,)
    subset_seeds: Seeds = (0,)
    shots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = ()
    labels: Annotated[tuple[str, ...], Field(strict=False)] = ()
    set: Annotated[tuple[str, ...], Field(strict=False)] = ()
    draw: Draw = "covering"
    validation: Literal["full", "budget"] = "full"
    limit: int | None = Field(default=None, ge=1)
    prompts: Annotated[Path | None, Field(strict=False)] = None
    prompt_sensitivity: bool = False

    def size(self) -> int:
        """An upper bound of the number of cells."""
        shares = len(self.shots or self.fractions) * len(self.subset_seeds) * len(self.seeds)
        names = len(self.models) * len(self.tasks) * len(self.data) * max(1, len(self.protocols))
        return names * shares

    def grids(self, **machine: Any) -> list[Grid]:
        """A grid for each protocol. machine: the fields of `Grid` that no plan has."""
        models = list(dict.fromkeys(self.models))
        return [
            Grid(
                models=models,
                datasets=list(dict.fromkeys(self.data)),
                tasks=self.tasks,
                fractions=self.fractions,
                seeds=self.seeds,
                protocol=protocol,
                changes=self.set,
                subset_seeds=self.subset_seeds,
                draw=self.draw,
                shots=self.shots,
                validation=self.validation,
                limit=self.limit,
                prompts=self.prompts,
                prompt_sensitivity=self.prompt_sensitivity,
                labels=label_models(models, self.labels),
                **machine,
            )
            for protocol in dict.fromkeys(self.protocols or (None,))
        ]


def read_plan(path: Path, changes: Mapping[str, Any]) -> list[GridTable]:
    """The grids of a plan's file; Misuse if there is no such file or it is broken.

    changes: fields of `GridTable` that replace those of every grid. Labels stay with their models;
    Misuse for other models where a grid has labels.
    """
    if not path.is_file():
        raise Misuse(f"there is no plan {path}: docs/sweeps.md shows how to write one")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Misuse(f"{path} has more than {MAX_BYTES:,} bytes: it is not a plan")
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: TOML and Unicode
        raise Misuse(f"{path} cannot be read as a plan: {error}") from error
    tables = raw.pop("grids", [{}])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise Misuse(f"{path}: write each grid as [[grids]], with two brackets")
    return [
        _replace(f"{path}, grid {number}", (raw, table), changes)
        for number, table in enumerate(tables, 1)
    ]


def _replace(
    place: str, layers: Sequence[Mapping[str, Any]], changes: Mapping[str, Any]
) -> GridTable:
    """The grid of the layers with other fields; labels stay with their models."""
    written = {name: value for layer in layers for name, value in layer.items()}
    if "models" not in changes or not written.get("labels"):
        return _parsed(place, *layers, changes)
    named = {"models": written.get("models", changes["models"])}
    grid = _parsed(place, *layers, named)
    labels = label_models(list(dict.fromkeys(grid.models)), grid.labels)
    if other := [model for model in changes["models"] if model not in labels]:
        raise Misuse(
            f"{place} labels its models and does not name {other[0]}: add this model and its label "
            "there, or remove the labels"
        )
    chosen = list(dict.fromkeys(changes["models"]))
    replaced = {"models": chosen, "labels": [labels[model] for model in chosen]}
    return _parsed(place, *layers, {**changes, **replaced})


def plan_of(fields: Mapping[str, Any]) -> list[GridTable]:
    """A plan of one grid from the command line; Misuse names a wrong or missing field."""
    return [_parsed("the command line", fields)]


def plan_cells(
    tables: Sequence[GridTable], bench: Workbench, **machine: Any
) -> tuple[list[CellSpec], int]:
    """The cells of all grids, those of a model together, and how many were named repeatedly.

    Raises Misuse for every error that can be found before a model is loaded.
    """
    if (size := sum(table.size() for table in tables)) > MAX_CELLS:
        raise Misuse(f"the plan has up to {size:,} cells; one sweep takes {MAX_CELLS:,} at most")
    grids = [grid for table in tables for grid in table.grids(**machine)]
    cells = [cell for grid in grids for cell in grid.cells(bench)]
    unique = list(dict.fromkeys(cells))
    order = {model: at for at, model in enumerate(dict.fromkeys(cell.model for cell in unique))}
    unique.sort(key=lambda cell: (order[cell.model], cell.model_seed))
    return unique, len(cells) - len(unique)


def _parsed(place: str, *layers: Mapping[str, Any]) -> GridTable:
    """The grid of the fields of all layers; a later layer replaces the fields of the earlier."""
    table: dict[str, Any] = {}
    for layer in layers:
        if "fractions" in layer and "shots" in layer:
            raise Misuse(f"{place}: fractions and shots both name the training subset: give one")
        for field, other in (("fractions", "shots"), ("shots", "fractions")):
            if field in layer:
                table.pop(other, None)
        table.update(layer)
    try:
        return GridTable.model_validate(table)
    except ValidationError as error:
        raise Misuse(f"{place}: {sentences(error, _unknown_field)}") from error


def _unknown_field(path: Sequence[str]) -> str:
    return unknown_name("field of a plan", path[0], list(GridTable.model_fields))
