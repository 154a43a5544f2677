"""The result format: one JSON file per cell, with the predictions beside it as Parquet.

Results are read by people, leaderboards and the regression gate. They are written once, atomically,
and validated when read. SCHEMA increases with every change of meaning; older files still load.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from g2dbench.errors import BadResult
from g2dbench.field_errors import first_sentence
from g2dbench.system.bounded_files import parse_json, read_text
from g2dbench.system.files import replace_file

SCHEMA = 4
MAX_BYTES, MAX_SUBSET_BYTES = 16 << 20, 256 << 20
RESULT_FILE, PREDICTIONS_FILE, SUBSET_FILE = "result.json", "predictions.parquet", "subset.json"
VALID_PREDICTIONS_FILE = "valid_predictions.parquet"
"""Predictions on the validation split, in the columns of the test predictions; optional. Their
SHA-256 is in the result's details under `VALID_PREDICTIONS`."""
VALID_PREDICTIONS = "valid_predictions"


class _StrictModel(BaseModel):
    """A frozen model that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


def _nan_from_null(value: object) -> object:
    """Read null as NaN, which JSON lacks."""
    return float("nan") if value is None else value


Number = Annotated[float, BeforeValidator(_nan_from_null)]


class Score(_StrictModel):
    """A metric's value with its 95 % confidence interval over patients; NaN if undefined.

    n: number of images that the value is computed from. bearers: number of patients without whom
    the value changes, of groups of patients if there are many; None if it was not counted. An
    interval of fewer than ten hangs on single patients. undefined: share of bootstrap resamples in
    which the metric is undefined; the interval is of the others.
    """

    value: Number
    low: Number = float("nan")
    high: Number = float("nan")
    n: int = 0
    bearers: int | None = None
    undefined: float = 0.0


class Cell(_StrictModel):
    """The key of a cell, by which results are compared.

    fraction: share of the training patients; 0 for a zero-shot task. model_seed: of pre-training,
    None for published weights. limit: maximum number of test images; None for all.
    precision: of the encoder's forward passes. draw: how training patients are sampled, see
    `data/splits/fractions.py`; shots: positive patients of each finding instead of a fraction.
    validation: "budget" samples the validation patients like the training patients.
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
    draw: Literal["covering", "stratified", "random"] = "covering"
    shots: int | None = None
    validation: Literal["full", "budget"] = "full"


def training_share(fraction: float, shots: int | None) -> str:
    """How messages name a cell's training subset: "10%", "5-shot" or "zero-shot"."""
    if shots is not None:
        return f"{shots}-shot"
    return f"{fraction * 100:g}%" if fraction else "zero-shot"


class Provenance(_StrictModel):
    """Everything needed to repeat a cell, and to refuse an invalid comparison.

    weights, data, subset, predictions: digests. commit, dirty: of the source checkout.
    source: what stood after `--model`.
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


class Result(_StrictModel):
    """One cell of the leaderboard.

    details: what the task reports besides scores: chosen epoch, validation curve, label counts;
    `imported` is true for predictions that were made elsewhere. checksum: of all other fields.
    """

    schema_version: int = SCHEMA
    cell: Cell
    status: Literal["done", "unsupported", "failed"]
    reason: str | None = None
    metric: str
    scores: dict[str, Score] = {}
    counts: dict[str, int] = {}
    details: dict[str, JsonValue] = {}
    provenance: Provenance
    checksum: str | None = None

    @property
    def main(self) -> Score | None:
        """The task's main score; None unless the status is "done"."""
        return self.scores.get(self.metric)


def plain_json(details: dict[str, Any]) -> dict[str, Any]:
    """Details as JSON values; NaN becomes null, and what JSON lacks becomes its text."""
    text = json.dumps(details, default=str)
    return dict(json.loads(text, parse_constant=lambda name: None))


def save(result: Result, folder: Path) -> Path:
    """Write `result.json`, the last file of a cell: if it exists, the cell is complete."""
    path = folder / RESULT_FILE
    text = sealed(result).model_dump_json(indent=1)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def sealed(result: Result) -> Result:
    """The result with its checksum."""
    raw = json.loads(result.model_dump_json())
    return result.model_copy(update={"checksum": checksum_of(raw)})


def checksum_of(raw: dict[str, Any]) -> str:
    """SHA-256 of a result file's content without its checksum; key order and spaces do not count.

    It tells an edited file from the one that was written; it is no signature.
    """
    content = {name: value for name, value in raw.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> Result:
    """Read one result; BadResult if the file is missing, broken or not a result."""
    try:
        text = read_text(path, MAX_BYTES)
        raw = parse_json(text)
        if "\\u" in text:  # an escape may name half a character, which no output can show
            json.dumps(raw, ensure_ascii=False).encode("utf-8")
        if not isinstance(raw, dict):
            raise BadResult(f"{path} holds no result: its top level is not an object")
        if (version := raw.get("schema_version")) not in range(1, SCHEMA + 1):
            raise BadResult(
                f"{path} has schema version {version!r}; this g2dbench reads 1 to {SCHEMA}: "
                "upgrade g2dbench or remove the file"
            )
        return Result.model_validate(_upgraded(raw))
    except ValidationError as error:
        raise BadResult(f"{path} is not a result: {first_sentence(error)}") from error
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: JSON, Unicode, long numbers
        raise BadResult(f"{path} cannot be read as a result: {error}") from error


def _upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    """Convert a result of an older schema to the current one.

    1 -> 2: `cell` has the precision, which only the provenance had before.
    2 -> 3: `cell` says how training patients are sampled, and results have details; the defaults
    are what g2dbench did before.
    3 -> 4: results have a checksum.
    """
    if raw["schema_version"] == 1 and isinstance(cell := raw.get("cell"), dict):
        provenance = raw.get("provenance")
        known = provenance.get("precision", "fp32") if isinstance(provenance, dict) else "fp32"
        raw = {**raw, "cell": {"precision": known, **cell}}
    return {**raw, "schema_version": SCHEMA}


def result_files(folder: Path) -> list[Path]:
    """The files of all complete results under a folder, sorted; see `result_entries`."""
    return [Path(entry.path) for entry in result_entries(folder)]


def result_entries(folder: Path) -> "list[os.DirEntry[str]]":
    """The files of all complete results under a folder, in the order of the parts of their paths.

    Follows links to folders, each folder once. Hidden folders are left out: cells that are being
    written. BadResult if there is no such folder.
    """
    if not folder.is_dir():
        raise BadResult(f"there is no results folder {folder}: run `g2dbench eval` first")
    try:
        return list(_walk(str(folder), None))
    except _HasLinks:
        return list(_walk(str(folder), {_identity(str(folder))}))


class _HasLinks(Exception):
    """A folder has a link to a folder, so that folders have to be told apart."""


def _walk(folder: str, seen: set[tuple[int, int] | str] | None) -> "Iterator[os.DirEntry[str]]":
    """seen: the folders so far; None if links are not followed but raised as `_HasLinks`."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:  # it was removed a moment ago, or may not be read
        return
    for entry in entries:
        if not _is_folder(entry):
            if entry.name == RESULT_FILE:
                yield entry
        elif entry.name.startswith("."):
            continue
        elif seen is None:  # 100,000 folders are told apart only if it is needed
            if entry.is_symlink():
                raise _HasLinks
            yield from _walk(entry.path, None)
        elif (own := _identity(entry.path)) not in seen:
            seen.add(own)  # links may lead in a circle
            yield from _walk(entry.path, seen)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str) -> tuple[int, int] | str:
    """Device and inode of a folder, or of where a link leads to; its path if it has vanished."""
    try:
        stat = os.stat(folder)
    except OSError:
        return folder
    return stat.st_dev, stat.st_ino


def load_all(folder: Path) -> list[Result]:
    """Every result under a folder, sorted by path."""
    return [load(path) for path in result_files(folder)]
