"""One evaluation as a value of names: it can be stored, sent to another process, and run there."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class CellSpec(BaseModel):
    """Everything that decides a cell's outcome, and where its inputs are found.

    Attributes:
        model: as after `--model`. model_seed: for a model that is drawn at random, such as
            random-init.
        task, protocol: by name.
        data: as after `--data`; the data set must be prepared in the folder `store`, at the short
            side `size` where several sizes are.
        fraction: share of the training patients, in (0, 1]; a zero-shot task ignores it.
        seed: of heads and shuffling. subset_seed: of the drawn fraction.
        limit: at most so many test images; None for all.
        precision: of the encoder's forward passes.
        plugins: files of the user's own models, tasks, data sets and methods.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    task: str
    data: str
    protocol: str
    model_seed: int = Field(default=0, ge=0)
    fraction: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    subset_seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    precision: str = "fp32"
    store: Path | None = None
    size: int | None = None
    plugins: tuple[Path, ...] = ()
