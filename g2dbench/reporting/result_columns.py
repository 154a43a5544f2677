"""Results as rows of a table, and back: what leaderboards and the regression gate need of each.

A summary is a result with its main score only; of its settings it has those of the protocol, of its
details whether it was imported, and no packages and no checksum. What many results share (model,
data, settings, counts) is one text that is validated once; a row holds its number and what is the
result's own.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, TypeAdapter

from g2dbench.result import Result

TEXT = pa.dictionary(pa.int32(), pa.string())
REPEATED = ("shared", "seeds", "subset")
"""The columns with few different texts."""

COLUMNS = (
    ("shared", TEXT),  # a `Result` as JSON, without the fields below
    ("seeds", TEXT),  # model_seed, seed and subset_seed as JSON
    ("subset", TEXT),
    ("created", TEXT),
    ("predictions", TEXT),
    ("value", pa.float64()),
    ("low", pa.float64()),
    ("high", pa.float64()),
    ("seconds", pa.float64()),
    ("memory", pa.float64()),
)
NULLABLE = ("predictions",)

Summary = tuple[str, str, str, str, str | None, float, float, float, float, float]
"""The values of `COLUMNS`."""

_Seeds = TypeAdapter(tuple[int | None, int, int])
_Model = TypeVar("_Model", bound=BaseModel)


def summarize(result: Result) -> Summary:
    """The row of a result."""
    cell, origin, main = result.cell, result.provenance, result.main
    config = {name: value for name, value in origin.config.items() if name == "protocol"}
    neutral = {
        "subset": "", "created": "", "predictions": None, "seconds": 0.0, "peak_memory_mib": 0.0,
        "config": config, "packages": {},
    }  # fmt: skip
    numbers = (nan, nan, nan) if main is None else (main.value, main.low, main.high)
    shared = result.model_copy(
        update={
            "cell": cell.model_copy(update={"model_seed": None, "seed": 0, "subset_seed": 0}),
            "scores": {} if main is None else {result.metric: _without_values(main)},
            "details": {"imported": True} if result.details.get("imported") is True else {},
            "provenance": origin.model_copy(update=neutral),
            "checksum": None,
        }
    )
    seeds = json.dumps([cell.model_seed, cell.seed, cell.subset_seed])
    own = (origin.subset, origin.created, origin.predictions)
    return (
        shared.model_dump_json(), seeds, *own, *numbers, origin.seconds, origin.peak_memory_mib
    )  # fmt: skip


def _without_values(score: _Model) -> _Model:
    return score.model_copy(update={"value": nan, "low": nan, "high": nan})


@dataclass
class SummaryReader:
    """Makes results from rows; equal texts are parsed once and shared by all results."""

    _templates: dict[str, Result] = field(default_factory=dict)
    _seeds: dict[str, tuple[int | None, int, int]] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def results(self, batch: pa.RecordBatch) -> Iterator[Result]:
        """The summaries of a batch; ValueError for texts that are none, or missing values."""
        for name, _ in COLUMNS:
            if batch[name].null_count and name not in NULLABLE:
                raise ValueError(f"its column {name} has missing values")
        columns = [
            texts_of(batch[name]) if kind is TEXT else batch[name].to_numpy().tolist()
            for name, kind in COLUMNS
        ]
        for row in zip(*columns, strict=True):
            yield self._result(*row)

    def _result(
        self,
        shared: str,
        seeds: str,
        subset: str,
        created: str,
        predictions: str | None,
        value: float,
        low: float,
        high: float,
        seconds: float,
        memory: float,
    ) -> Result:
        template = self._templates.get(shared)
        if template is None:
            template = self._templates[shared] = Result.model_validate_json(shared)
        if seeds not in self._seeds:
            self._seeds[seeds] = _Seeds.validate_json(seeds)
        model_seed, seed, subset_seed = self._seeds[seeds]
        fields = {"model_seed": model_seed, "seed": seed, "subset_seed": subset_seed}
        origin = {
            "subset": self._texts.setdefault(subset, subset),
            "created": created,
            "predictions": predictions,
            "seconds": seconds,
            "peak_memory_mib": memory,
        }
        main = template.main
        numbers = {"value": value, "low": low, "high": high}
        return _copied(
            template,
            {
                "cell": _copied(template.cell, fields),
                "scores": {} if main is None else {template.metric: _copied(main, numbers)},
                "provenance": _copied(template.provenance, origin),
            },
        )


def _copied(model: _Model, changes: dict[str, Any]) -> _Model:
    """The same as `model_copy`, in a fifth of the time: all copies share the set of fields.

    Nothing is validated: the values come from columns of the right types.
    """
    copy = object.__new__(type(model))
    assign = object.__setattr__
    assign(copy, "__dict__", {**vars(model), **changes})
    assign(copy, "__pydantic_fields_set__", model.__pydantic_fields_set__)
    assign(copy, "__pydantic_extra__", None)
    assign(copy, "__pydantic_private__", None)
    return copy


def texts_of(column: pa.Array) -> list[Any]:
    """The values of a dictionary of texts or bytes; equal ones are one object."""
    values = [*column.dictionary.to_pylist(), None]
    return [values[at] for at in column.indices.fill_null(-1).to_numpy().tolist()]


def columns_of(rows: Sequence[Sequence[object]], schema: pa.Schema) -> list[pa.RecordBatch]:
    """The rows as one batch; no batch for no rows."""
    if not rows:
        return []
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    arrays = [pa.array(values, column.type) for values, column in columns]
    return [pa.record_batch(arrays, schema=schema)]
