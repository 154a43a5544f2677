"""Finished cells on disk with their predictions, for analyses that need no model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from g2dbench.errors import BadResult
from g2dbench.evaluation.cell_folder import read_predictions
from g2dbench.result import (
    PREDICTIONS_FILE,
    VALID_PREDICTIONS,
    VALID_PREDICTIONS_FILE,
    Result,
    load,
    result_files,
    training_share,
)
from g2dbench.system.files import file_digest


@dataclass(frozen=True)
class StoredCell:
    """A finished cell: its folder, its result and the predictions from which it was scored."""

    folder: Path
    result: Result
    predictions: pd.DataFrame

    @property
    def title(self) -> str:
        """Model, task, protocol and data of the cell in one line."""
        cell = self.result.cell
        share = training_share(cell.fraction, cell.shots)
        return f"{cell.model} {cell.task}:{cell.protocol} {cell.data} {share} seed {cell.seed}"

    def valid_predictions(self) -> pd.DataFrame | None:
        """Predictions on the validation split; None if the cell has none.

        BadResult if the result names their digest, and the file is missing or another one.
        """
        path = self.folder / VALID_PREDICTIONS_FILE
        digest = self.result.details.get(VALID_PREDICTIONS)
        if digest is not None and (not path.is_file() or file_digest(path) != digest):
            raise BadResult(
                f"{path} is missing, or is not the file that the run wrote: run the cell again "
                "(--rerun)"
            )
        return read_predictions(path) if path.is_file() else None


def stored_cells(folders: Sequence[Path]) -> Iterator[StoredCell]:
    """Yield the finished cells under these folders, each once, sorted by path within a folder.

    BadResult: a folder does not exist or has no finished cell, or predictions are missing, broken
    or not those of the result.
    """
    paths = list(dict.fromkeys(path for folder in folders for path in result_files(folder)))
    finished = [(path, found) for path in paths if (found := load(path)).status == "done"]
    if not finished:
        named = ", ".join(str(folder) for folder in folders)
        raise BadResult(f"there is no finished cell in {named}: run `g2dbench eval` first")
    for path, result in finished:
        file = path.parent / PREDICTIONS_FILE
        if not file.is_file():
            raise BadResult(
                f"{path.parent} has no {PREDICTIONS_FILE}: run the cell again (--rerun)"
            )
        if file_digest(file) != result.provenance.predictions:
            raise BadResult(
                f"{file} is not the file from which the result was computed: run the cell again "
                "(--rerun)"
            )
        yield StoredCell(path.parent, result, read_predictions(file))
