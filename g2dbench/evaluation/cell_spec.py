"""One evaluation as a serializable value: it can be stored, or run in another process."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from g2dbench.data.splits.fractions import Draw
from g2dbench.result import training_share

MAX_LABEL = 100
"""Most characters of a label."""


class CellSpec(BaseModel):
    """Everything that determines the score of a cell, and where to find its inputs.

    Attributes:
        model: as in `--model`. model_seed: of a randomly initialized model, such as random-init.
        label: row of the leaderboard, instead of the model's own label.
        task, protocol: names.
        data: as in `--data`; the data set must be prepared in the folder `store`. size: short side
            in pixels, needed if it is prepared at several sizes.
        fraction: share of the training patients; 0 for a zero-shot task, which ignores it.
        seed: of head initialization and shuffling. subset_seed: of sampling the fraction.
        draw: how training patients are sampled, see `data/splits/fractions.py`. shots: positive
            patients of each finding, instead of a fraction.
        validation: "full" uses the whole validation split, "budget" samples it like the training
            patients.
        limit: maximum number of test images; None for all.
        prompts: a file with text prompts instead of the protocol's, see `evaluation/prompts.py`.
        prompt_sensitivity: also report the spread of the main score over paraphrases.
        precision: of the encoder's forward passes; "auto" is chosen where the cell runs.
        plugins: plug-in files with the user's models, tasks, data sets and methods.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    task: str
    data: str
    protocol: str
    model_seed: int = Field(default=0, ge=0)
    label: str | None = Field(default=None, min_length=1, max_length=MAX_LABEL)
    fraction: float = Field(default=1.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    subset_seed: int = Field(default=0, ge=0)
    draw: Draw = "covering"
    shots: int | None = Field(default=None, ge=1)
    validation: Literal["full", "budget"] = "full"
    limit: int | None = Field(default=None, ge=1)
    prompts: Path | None = None
    prompt_sensitivity: bool = False
    precision: str = "fp32"
    store: Path | None = None
    size: int | None = None
    plugins: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """The cell in a few words, for progress and messages."""
        share = training_share(self.fraction, self.shots)
        name = f"{self.label or self.model} {self.task}:{self.protocol} {self.data} {share}"
        return f"{name} seed {self.seed or self.model_seed}"

    def command(self, size: int, batch_size: int) -> list[str]:
        """The words after `g2dbench` that evaluate this cell, without --store, --out and --device.

        size: short side of the prepared images in pixels.
        """
        words: dict[str, object] = {
            "model": self.model,
            "task": self.task,
            "data": self.data,
            "protocol": self.protocol,
            "shots": self.shots,
            "fraction": None if self.shots is not None else self.fraction or None,
            "seed": self.seed or self.model_seed,
            "subset-seed": self.subset_seed,
            "draw": self.draw,
            "limit": self.limit,
            "label": self.label,
            "prompts": self.prompts,
            "precision": self.precision,
            "size": size,
            "batch-size": batch_size,
        }
        found = ["eval"]
        for name, value in words.items():
            found += [] if value is None else [f"--{name}", str(value)]
        found += ["--val-budget"] if self.validation == "budget" else []
        found += ["--prompt-sensitivity"] if self.prompt_sensitivity else []
        return found + [word for path in self.plugins for word in ("--plugin", str(path))]
