"""Applies the fitted head of a finished cell to a folder of images.

The images are prepared as the cell's data were: grey, with the same short side. Predictions of an
image do not depend on the others, so a folder of any size is predicted part by part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.data.images.image_file import EXTENSIONS, read_image
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.data.tables.files import check_layout, files_below, relative_name
from g2dbench.errors import BadCheckpoint, BadData, BadResult, Misuse, Unsupported
from g2dbench.evaluation.heads.saved_head import HEAD_FILE, SavedHead, load_head
from g2dbench.evaluation.model_reference import resolve
from g2dbench.model import Model
from g2dbench.registry import Registry
from g2dbench.result import RESULT_FILE, Result, load
from g2dbench.sample import Sample
from g2dbench.system.machine import Machine
from g2dbench.task import Run, Task, protocol_of_cell

PART = 256
"""Images that are in memory at once."""

GROUND_TRUTH = "truth"
"""The column of a task's predictions that an image without annotation cannot have."""


@dataclass(frozen=True)
class FittedCell:
    """A finished cell whose head was saved: its task, settings, head and result."""

    task: Task
    settings: Any
    head: SavedHead
    result: Result

    @classmethod
    def open(cls, folder: Path, registry: Registry) -> "FittedCell":
        """Read a cell's folder.

        Raises BadResult without a finished result, BadCheckpoint without a head, Unsupported if the
        task cannot apply one.
        """
        if folder.name == HEAD_FILE:
            folder = folder.parent
        result = load(folder / RESULT_FILE)
        if result.status != "done":  # a failed cell may have left an older head
            raise BadResult(f"the cell in {folder} is {result.status}: run it again")
        task: Task = registry.find(TaskCard, result.cell.task).load()
        if not hasattr(task, "apply"):
            raise Unsupported(f"the task {result.cell.task} cannot apply a fitted head to images")
        settings = protocol_of_cell(task, result.cell.protocol)
        return cls(task, settings, load_head(folder / HEAD_FILE), result)

    def model(self, reference: str | None, registry: Registry) -> Model:
        """The cell's model, or the one that `reference` names, with the weights of the cell.

        BadCheckpoint if its weights are others than those for which the head was fitted.
        """
        text = reference or self.result.provenance.source
        if not text:
            raise Misuse("the result does not say what --model was: give --model")
        model = resolve(text, registry).load(registry, self.result.cell.model_seed or 0)
        if model.identity.digest != self.result.provenance.weights:
            raise BadCheckpoint(
                f"the weights of {text} are not those for which the head was fitted (SHA-256 "
                f"{model.identity.digest[:12]}, the result has "
                f"{self.result.provenance.weights[:12]}): give the original with --model"
            )
        return model

    def size(self, given: int | None) -> int:
        """The short side of the prepared images in pixels; Misuse if nothing says it."""
        size = given or self.result.provenance.config.get("image_size")
        if not isinstance(size, int):
            raise Misuse(
                "the result does not say how large its images were prepared: give --size "
                "(`g2dbench data list` shows the sizes of prepared data)"
            )
        return size


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, sorted by path; BadData if there is none."""
    check_layout(folder)
    found = sorted(path for path in files_below(folder) if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise BadData(f"{folder} holds no image: files ending in {', '.join(EXTENSIONS)}")
    return found


def predict_files(
    cell: FittedCell, model: Model, files: Sequence[Path], root: Path, size: int, machine: Machine
) -> Iterator[pd.DataFrame]:
    """Yield the predictions of `PART` images at a time; `id` is the path from the root.

    The columns are those of the task's predictions, without ground truth and patient. BadData
    names the first file that cannot be read.
    """
    model.to(machine.device).eval()
    for start in range(0, len(files), PART):
        samples = [_sample(path, root, size) for path in files[start : start + PART]]
        data = MemoryDataset(samples, _CARD, size)
        run: Run[Any] = Run(
            train=data.take([]),
            valid=data.take([]),
            test=data,
            protocol=cell.settings,
            machine=machine,
        )
        table = cell.task.apply(model, cell.head, run)  # type: ignore[attr-defined]
        yield table.drop(columns=[GROUND_TRUTH, "patient"], errors="ignore")


_CARD = DatasetCard(
    name="folder", summary="A folder of images.", offers=(), findings=(), url="", licence=""
)


def _sample(path: Path, root: Path, size: int) -> Sample:
    name = relative_name(path, root)
    image, _ = read_image(path, size)
    return Sample(id=name, image=image, patient=name)
