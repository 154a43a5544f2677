"""The result format: one JSON per cell, its predictions beside it as Parquet.

A result is read by people, leaderboards and gates; it is written once, atomically, and checked on
the way in. SCHEMA counts up with every change of meaning; older files keep loading.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from g2dbench.errors import BadResult
from g2dbench.system.files import replace_file

SCHEMA = 2
RESULT_FILE, PREDICTIONS_FILE, SUBSET_FILE = "result.json", "predictions.parquet", "subset.json"


class Record(BaseModel):
    """Frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


def _nan_from_null(value: object) -> object:
    """JSON has no NaN: it is written as null."""
    return float("nan") if value is None else value


Number = Annotated[float, BeforeValidator(_nan_from_null)]


class Score(Record):
    """A metric's value with its 95 % interval over patients; NaN where undefined.

    n: what was averaged over (images, patients or boxes, as the metric's name says).
    """

    value: Number
    low: Number = float("nan")
    high: Number = float("nan")
    n: int = 0


class Cell(Record):
    """What identifies a cell: two results are compared where all of these agree.

    fraction: share of the training patients; 0 for a zero-shot task. model_seed: of pre-training,
    None for published weights. limit: at most so many test images; None for all of them.
    precision: of the encoder's forward passes.
    """

    model: str
    model_seed: int | None = None
    task: str
    data: str
    protocol: str
    fraction: float = Field(ge=0, le=1)
    seed: int = 0
    subset_seed: int = 0
    limit: int | None = None
    precision: str = "fp32"


class Provenance(Record):
    """Everything needed to re-run a cell, and to refuse a comparison.

    weights: their digest, which says which model it was; source: what stood after `--model`.
    """

    version: str
    commit: str | None = None
    dirty: bool | None = None
    weights: str
    source: str = ""
    data: str
    subset: str
    predictions: str | None = None
    config: dict[str, Any] = {}
    packages: dict[str, str] = {}
    hardware: str = ""
    device: str = "cpu"
    precision: str = "fp32"
    seconds: float = 0.0
    peak_memory_mib: float = 0.0
    created: str = ""


class Result(Record):
    """One cell of the leaderboard."""

    schema_version: int = SCHEMA
    cell: Cell
    status: Literal["done", "unsupported", "failed"]
    reason: str | None = None
    metric: str
    scores: dict[str, Score] = {}
    counts: dict[str, int] = {}
    provenance: Provenance

    @property
    def main(self) -> Score | None:
        """The task's main score, None unless done."""
        return self.scores.get(self.metric)


def save(result: Result, folder: Path) -> Path:
    """Write `result.json`; the last file of a cell, so that its presence means complete."""
    path = folder / RESULT_FILE
    text = result.model_dump_json(indent=1)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def load(path: Path) -> Result:
    """Read one result; BadResult says what is wrong with the file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise BadResult(f"{path} holds no result: its top level is not an object")
        if (version := raw.get("schema_version")) not in range(1, SCHEMA + 1):
            raise BadResult(
                f"{path} has schema version {version!r}; this g2dbench reads 1 to {SCHEMA}: "
                "upgrade g2dbench or remove the file"
            )
        return Result.model_validate(_upgraded(raw))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadResult(f"{path} cannot be read as a result: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadResult(f"{path} is not a result: {where}: {first['msg']}") from error


def _upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    """A result of an older schema in today's form.

    1 -> 2: a cell states its precision, which stood in the provenance alone.
    """
    if raw["schema_version"] == 1 and isinstance(cell := raw.get("cell"), dict):
        provenance = raw.get("provenance")
        known = provenance.get("precision", "fp32") if isinstance(provenance, dict) else "fp32"
        raw = {**raw, "schema_version": SCHEMA, "cell": {"precision": known, **cell}}
    return raw


def load_all(folder: Path) -> list[Result]:
    """Every result under a folder, sorted by path."""
    if not folder.is_dir():
        raise BadResult(f"there is no results folder {folder}: run `g2dbench eval` first")
    return [load(path) for path in sorted(folder.rglob(RESULT_FILE))]
