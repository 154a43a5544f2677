"""Learning-rate schedules: linear warm-up, then constant, a half cosine, or cosine restarts.

Steps count from 0. No other module computes a learning rate.
"""

import math
from typing import Literal

Schedule = Literal["cosine", "restarts", "constant"]


def cosine_factor(progress: float) -> float:
    """Half cosine from 1 at progress 0 to 0 at progress 1 and beyond."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def learning_rate(
    step: int,
    total: int,
    schedule: Schedule,
    *,
    peak: float,
    end: float = 0.0,
    warmup: int = 0,
    restart_steps: int = 0,
) -> float:
    """The learning rate of an optimizer step.

    total: steps of the training including warm-up. peak: the rate after `warmup` steps.
    end: the final rate of a cosine. restart_steps: length of each cosine of "restarts".
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    if schedule == "restarts":
        progress = (step - warmup) % restart_steps / restart_steps
    else:
        progress = (step - warmup) / max(total - warmup, 1)
    return end + (peak - end) * cosine_factor(progress)
