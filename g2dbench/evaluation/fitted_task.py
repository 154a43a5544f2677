"""Functions shared by tasks that fit a head.

Such a task takes the annotated images of each split, caches the frozen encoder's features of them
(`frozen_features`), fits a head on the training split with early stopping on the validation split
(`fit_head`), and stores the head's predictions on the test split.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.fit_head import SHUFFLE, FitResult, FitSettings, fit
from g2dbench.evaluation.heads.saved_head import SavedHead, save_head
from g2dbench.task import Run


def check_splits(run: Run[Any]) -> None:
    """Raise BadData if the training, validation or test split is empty."""
    for name, part in (("train", run.train), ("valid", run.valid), ("test", run.test)):
        if len(part) == 0:
            raise BadData(
                f"{run.test.card.name} has no {name} images at --fraction {run.fraction:g}: "
                "fitting a head needs train, valid and test images"
            )


def annotated(data: Dataset, kind: Literal["boxes", "masks"], part: str) -> Dataset:
    """The images annotated with boxes or masks, including those without findings.

    part: the split's name, for the error. BadData if no image is annotated.
    """
    rows = np.flatnonzero(data.table[f"has_{kind}"].to_numpy(bool))
    if rows.size == 0:
        raise BadData(
            f"none of the {len(data)} {part} images of {data.card.name} has {kind}: "
            f"increase --fraction, or choose a data set with {kind}"
        )
    return data.take(rows.tolist())


def fit_in_run(
    run: Run[Any],
    head: nn.Module,
    count: int,
    loss: Callable[[Tensor], Tensor],
    validate: Callable[[], float],
    settings: FitSettings,
    title: str,
) -> FitResult:
    """`fit_head.fit` with the run's random order of batches and its progress display.

    The chosen epoch, the validation curve and the settings go into the result's details.
    """
    shuffle = run.generator(SHUFFLE)
    found = fit(head, count, loss, validate, settings, shuffle, run.progress, title)
    run.details["fit"] = {**asdict(found), "images": count, "settings": asdict(settings)}
    return found


def save_if_asked(run: Run[Any], head: SavedHead) -> SavedHead:
    """Write the fitted head into the cell's folder with `--save-heads`; returns it."""
    if run.save_heads and run.folder is not None:
        save_head(head, run.folder)
    return head
