"""Checks that a stored result is what its cell computed: nothing edited, swapped or mixed up.

Each result is compared with everything that lies beside it: its own checksum, the folder's name
(which ends in a digest of model, data, subset, protocol and code), the subset's ids, the digest of
the predictions, and the scores computed from them again. This finds mistakes and edits; it is no
signature, so someone who rewrites a whole cell consistently is not found.
"""

import datetime
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g2dbench.cards import TaskCard
from g2dbench.errors import BadResult, G2DBenchError
from g2dbench.evaluation.cell_identity import folder_of
from g2dbench.evaluation.rescore import differences, rescore
from g2dbench.registry import Registry
from g2dbench.result import (
    MAX_BYTES,
    MAX_SUBSET_BYTES,
    PREDICTIONS_FILE,
    SUBSET_FILE,
    VALID_PREDICTIONS,
    VALID_PREDICTIONS_FILE,
    Result,
    checksum_of,
    load,
)
from g2dbench.system.bounded_files import read_json
from g2dbench.system.files import file_digest
from g2dbench.system.parquet_files import read_frame

_IDENTITY_SCHEMA, _CHECKSUM_SCHEMA = 3, 4
"""The schema versions since which a folder's name and a checksum can be recomputed."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Verification:
    """The outcome for one result. problems: empty if verified. notes: what was not checked."""

    path: Path
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify(path: Path, registry: Registry) -> Verification:
    """Check one result file against its folder; never raises for what the files contain."""
    try:
        result = load(path)
        raw = read_json(path, MAX_BYTES)
    except (BadResult, OSError, ValueError) as error:
        return Verification(path, (str(error),))
    version = raw["schema_version"]
    problems = [*_checksum(raw), *_folder(result, path, version), *_provenance(result)]
    if result.status == "done":
        problems += [*_subset(result, path.parent), *_scores(result, path.parent, registry)]
    elif result.scores:
        problems.append(f"its status is {result.status}, but it has scores")
    notes = []
    if version < _CHECKSUM_SCHEMA:
        notes.append(
            f"it was written by an older version (schema {version}), without a checksum: counts, "
            "details, commit and times could not be checked"
        )
    return Verification(path, tuple(problems), tuple(notes))


def _checksum(raw: dict[str, Any]) -> Iterator[str]:
    if raw["schema_version"] < _CHECKSUM_SCHEMA:
        return
    stored = raw.get("checksum")
    if stored is None:
        yield "it has no checksum"
    elif stored != checksum_of(raw):
        yield "the file was edited after it was written: its checksum does not match"


def _folder(result: Result, path: Path, version: int) -> Iterator[str]:
    """The folder is named after task, data, model, protocol, seeds, and a digest of the rest."""
    config, origin = result.provenance.config, result.provenance
    identity = {
        "cell": result.cell.model_dump(),
        "weights": origin.weights,
        **{name: config.get(name) for name in ("model_settings", "model_code", "task_code")},
        "data": origin.data,
        "subset": origin.subset,
        "protocol": config.get("protocol"),
        "version": origin.version,
    }
    wanted = folder_of(Path(), result.cell, identity).parts
    found = path.parent.absolute().parts[-len(wanted) :]
    names = ("task", "data set", "model")
    for name, one, other in zip(names, wanted, found, strict=False):
        if one != other:
            yield f"its {name} is {one}, but its folder is that of {other}"
    own, digest = wanted[-1].rsplit("-", 1)
    stored, _, stored_digest = found[-1].rpartition("-")
    if own != stored:
        yield f"protocol, fraction and seeds give the folder {own}, not {stored}"
    if version >= _IDENTITY_SCHEMA and digest != stored_digest:
        yield (
            "cell, weights, data, subset, protocol settings, code and version do not give the "
            f"digest in its folder's name ({digest}, not {stored_digest})"
        )


def _provenance(result: Result) -> Iterator[str]:
    origin = result.provenance
    if origin.precision != result.cell.precision:
        yield f"its precision is {result.cell.precision}, its provenance says {origin.precision}"
    if origin.commit is not None and not re.fullmatch(r"[0-9a-f]{7,64}", origin.commit):
        yield f"{origin.commit[:40]!r} is no commit"
    try:
        datetime.datetime.fromisoformat(origin.created)
    except ValueError:
        yield f"{origin.created[:40]!r} is no time of creation"
    if origin.predictions is not None and not _SHA256.fullmatch(origin.predictions):
        yield "its digest of the predictions is no SHA-256"


def _subset(result: Result, folder: Path) -> Iterator[str]:
    path = folder / SUBSET_FILE
    try:
        stored = read_json(path, MAX_SUBSET_BYTES)
        ids, digest = [str(name) for name in stored["ids"]], stored["digest"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        yield f"{SUBSET_FILE} cannot be read: {type(error).__name__}"
        return
    if digest != result.provenance.subset:
        yield f"{SUBSET_FILE} is that of another subset than the result's"
    sampled = (
        "zero-shot" if not ids else hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    )
    # A sampled validation split is in the digest too, and its ids are not stored.
    if result.cell.validation == "full" and sampled != digest:
        yield f"the ids in {SUBSET_FILE} do not give its digest"
    if result.counts.get("train", len(ids)) != len(ids):
        yield f"it counts {result.counts['train']} training images, {SUBSET_FILE} has {len(ids)}"


def _valid_predictions(result: Result, folder: Path) -> Iterator[str]:
    digest = result.details.get(VALID_PREDICTIONS)
    path = folder / VALID_PREDICTIONS_FILE
    if digest is not None and (not path.is_file() or file_digest(path) != digest):
        yield f"{VALID_PREDICTIONS_FILE} is missing, or is not the file that the run wrote"


def _scores(result: Result, folder: Path, registry: Registry) -> Iterator[str]:
    """Compute all scores from the stored predictions again."""
    try:
        task = registry.find(TaskCard, result.cell.task).load()
        stored, computed = rescore(folder, task)
        table = read_frame(folder / PREDICTIONS_FILE, ["id"])
    except G2DBenchError as error:
        yield str(error)
        return
    except Exception as error:  # predictions are strangers' files, and tasks may be plug-ins
        yield f"its predictions cannot be scored: {type(error).__name__}: {error}"
        return
    changed = differences(stored.scores, computed.scores)
    hint = f" (computed by version {result.provenance.version})" if changed else ""
    yield from (f"{line}{hint}" for line in changed)
    if result.metric not in computed.scores:
        yield f"the task has no metric {result.metric!r}, which the result calls its main score"
    yield from _valid_predictions(result, folder)
    images, counted = table["id"].nunique(), result.counts.get("test")
    if counted is not None and images > counted:
        yield f"it counts {counted} test images, its predictions are of {images}"
    if result.cell.limit is not None and images > result.cell.limit:
        yield f"its limit is {result.cell.limit} test images, its predictions are of {images}"
