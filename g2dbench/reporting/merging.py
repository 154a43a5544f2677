"""Joins results folders, for example of several machines, without losing or mixing a cell."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from g2dbench.errors import BadResult, Misuse
from g2dbench.evaluation.cell_folder import publish, reserved
from g2dbench.evaluation.cell_identity import folder_of
from g2dbench.reporting.stored_results import StoredResult, read_results
from g2dbench.result import MAX_BYTES, RESULT_FILE, checksum_of, load
from g2dbench.system.bounded_files import read_json


@dataclass(frozen=True)
class Merged:
    """The numbers of cells copied and of those that were there; problems: what was left out."""

    copied: int
    present: int
    problems: tuple[str, ...]


def merge(folders: Iterable[Path], out: Path) -> Merged:
    """Copy all cells of the folders to `out`.

    A finished cell replaces a failed one. Two finished cells of one identity with different scores
    are a problem: the first stays. Only regular files are copied. Misuse if `out` is one of the
    folders; BadResult as from `read_results`.
    """
    sources = list(folders)
    if out.resolve() in [source.resolve() for source in sources]:
        raise Misuse(f"{out} is both source and target: name another target")
    copied = present = 0
    problems: list[str] = []
    for source in sources:
        stored, broken = read_results(source)
        problems += broken
        for each in stored:
            try:
                changed = _merge_cell(each, out)
            except BadResult as error:
                problems.append(str(error))
                continue
            copied, present = copied + changed, present + (not changed)
    return Merged(copied, present, tuple(problems))


def _merge_cell(each: StoredResult, out: Path) -> bool:
    """Whether the cell was copied; False if `out` has it already. BadResult for an edited one."""
    raw = read_json(each.folder / RESULT_FILE, MAX_BYTES)
    if raw.get("checksum") not in (None, checksum_of(raw)):
        raise BadResult(f"{each.folder} was edited: `g2dbench verify` says more")
    if each.result.status == "done" and each.predictions() is None:
        raise BadResult(
            f"{each.folder} has no predictions, or others than its scores were computed from"
        )
    # Task, data set and model name the upper folders; the last keeps its name.
    place = out.joinpath(*folder_of(Path(), each.result.cell, {}).parts[:3], each.folder.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with reserved(place, out) as partial:
        if (place / RESULT_FILE).is_file() and not _replaces(each, place):
            return False
        for file in each.folder.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copy2(file, partial / file.name)
        publish(partial, place)
    return True


def _replaces(each: StoredResult, place: Path) -> bool:
    """Whether a cell replaces the one in its place; BadResult if the two contradict each other."""
    there = load(place / RESULT_FILE)
    if there.status != "done":
        return each.result.status == "done"
    same = there.provenance.predictions == each.result.provenance.predictions
    if each.result.status == "done" and not same:
        raise BadResult(
            f"{each.folder} and {place} are the same cell with other predictions: find out why, "
            "then remove one"
        )
    return False
