"""Results of a folder together with their places; broken files are reported, not fatal."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from g2dbench.errors import BadResult, G2DBenchError
from g2dbench.result import PREDICTIONS_FILE, Result, load, result_files
from g2dbench.system.files import file_digest


@dataclass(frozen=True)
class StoredResult:
    """A result and the folder of its cell."""

    result: Result
    folder: Path

    def predictions(self) -> Path | None:
        """The stored predictions; None if there are none, or others than the result's."""
        path = self.folder / PREDICTIONS_FILE
        if not path.is_file() or file_digest(path) != self.result.provenance.predictions:
            return None
        return path


@contextmanager
def stored_values(what: str) -> Iterator[None]:
    """Raise BadResult for what goes wrong while values of a stranger's file are converted."""
    try:
        yield
    except G2DBenchError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise BadResult(f"{what} cannot be read: {error}") from error


def read_results(folder: Path) -> tuple[list[StoredResult], list[str]]:
    """The readable results of a folder, sorted by path, and a sentence for each broken file.

    BadResult if the folder does not exist, or none of its results can be read.
    """
    found: list[StoredResult] = []
    problems: list[str] = []
    for path in result_files(folder):
        try:
            found.append(StoredResult(load(path), path.parent))
        except BadResult as error:
            problems.append(str(error))
    if not found:
        raise no_readable_result(folder, problems)
    return found, problems


def no_readable_result(folder: Path, problems: Sequence[str]) -> BadResult:
    """The error for a folder none of whose results can be read."""
    detail = f"; {problems[0]}" if problems else ": run `g2dbench eval` first"
    return BadResult(f"{folder} has no readable result{detail}")


def newest(results: Iterable[StoredResult]) -> list[StoredResult]:
    """Of several results of one cell and the same weights, the one that was created last."""
    found: dict[tuple[str, str], StoredResult] = {}
    for each in sorted(results, key=lambda each: each.result.provenance.created):
        found[each.result.cell.model_dump_json(), each.result.provenance.weights] = each
    return list(found.values())
