"""Learning-rate schedules: the one place where a step's learning rate is computed.

Steps count from 0. A schedule warms up linearly, then stays constant, falls on a half cosine, or
falls on the same half cosine again and again.
"""

import math
from typing import Literal

Schedule = Literal["cosine", "restarts", "constant"]


def cosine_factor(share: float) -> float:
    """1 at share 0 of the way, 0 at its end and after it."""
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


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

    total: steps of the whole training, warm-up included. peak: the rate after `warmup` steps.
    end: the rate that a cosine falls to. restart_steps: the length of one cosine of "restarts".
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    if schedule == "restarts":
        share = (step - warmup) % restart_steps / restart_steps
    else:
        share = (step - warmup) / max(total - warmup, 1)
    return end + (peak - end) * cosine_factor(share)
