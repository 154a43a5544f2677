"""What tasks that fit a head have in common, as functions to compose.

A fitted task takes the annotated images of each part, caches what the frozen encoder makes of them
(`frozen_features`), fits a head on the training part by the validation part (`fit_head`), and
stores what the head says of the test part.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation.fit_head import SHUFFLE, FitSettings, Fitted, fit
from g2dbench.task import Run


def check_parts(run: Run[Any]) -> None:
    """BadData with the part's name where there is nothing to fit on, to stop by, or to test."""
    for name, part in (("train", run.train), ("valid", run.valid), ("test", run.test)):
        if len(part) == 0:
            raise BadData(
                f"{run.test.card.name} has no {name} images at --fraction {run.fraction:g}: "
                "fitting a head needs train, valid and test images"
            )


def annotated(data: Dataset, kind: Literal["boxes", "masks"], part: str) -> Dataset:
    """The images whose boxes or masks were drawn, even if none was found; `part` is for the error.

    BadData where no image was annotated.
    """
    rows = np.flatnonzero(data.table[f"has_{kind}"].to_numpy(bool))
    if rows.size == 0:
        raise BadData(
            f"none of the {len(data)} {part} images of {data.card.name} has {kind}: "
            f"raise --fraction, or choose a data set with {kind}"
        )
    return data.take(rows.tolist())


def fit_on(
    run: Run[Any],
    head: nn.Module,
    count: int,
    loss: Callable[[Tensor], Tensor],
    validate: Callable[[], float],
    settings: FitSettings,
    title: str,
) -> Fitted:
    """`fit_head.fit` with the run's own order of batches and its progress."""
    return fit(head, count, loss, validate, settings, run.generator(SHUFFLE), run.progress, title)
