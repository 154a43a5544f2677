"""Prompt sensitivity: how much the main metric differs between paraphrases of the prompts.

Legend: N images, K findings, D width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.evaluation.prompts import PromptSet, load_prompts
from g2dbench.evaluation.zero_shot.classification import classes
from g2dbench.evaluation.zero_shot.prompt_scores import TextEmbedder, paraphrases, prompt_scores
from g2dbench.metrics.classification import accuracy, macro_auc
from g2dbench.metrics.confusion import argmax_class

FALLBACK = "ours"
"""The set whose paraphrases are used for a set with one prompt of each finding."""


def spread(
    embed: TextEmbedder,
    images: Tensor,
    truth: NDArray[np.float64],
    prompts: PromptSet,
    findings: Sequence[str],
    exclusive: bool,
) -> dict[str, Any]:
    """The main metric with each single prompt: mean, sample standard deviation, min and max.

    images (N, D), truth (N, K). The prompts are those of the set, or of `FALLBACK` if the set has
    one of each finding; `set` says which. `paraphrases` lists the values, each with the prompts of
    the first finding as an example. All are NaN if the metric is undefined.
    """
    singles = paraphrases(prompts, findings)
    if len(singles) < 2:
        prompts = load_prompts(FALLBACK)
        singles = paraphrases(prompts, findings)
    values = [
        _main_value(truth, prompt_scores(embed, images, one, "normalized", exclusive), exclusive)
        for one in singles
    ]
    listed = [
        {"positive": one[0].positive, "negative": one[0].negative, "value": value}
        for one, value in zip(singles, values, strict=True)
    ]
    return {
        "metric": "acc" if exclusive else "auc",
        "set": prompts.label,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
        "paraphrases": listed,
    }


def _main_value(truth: NDArray[np.float64], value: NDArray[np.float64], exclusive: bool) -> float:
    if exclusive:
        return accuracy(classes(truth), argmax_class(value))
    return macro_auc(truth, value).value
