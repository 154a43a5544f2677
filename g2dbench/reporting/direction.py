"""Which metrics are better when they are lower: the one table for rankings, tests and the gate."""

LOWER_IS_BETTER = (
    "hd95", "assd",  # distances between boundaries, in pixels
    "ece", "brier",  # calibration errors
    "median_rank",  # of the right answer among the candidates
    "relative_drop",  # share of the clean score that corruption costs
    "gap",  # between groups of patients
    "error", "loss",  # of a plug-in's task
)  # fmt: skip
"""Names or last words of names, without finding and group; every other metric is better when it is
higher."""

_VARIANTS = ("_crossfit", "_temperature", "_lowest", "_highest", "_small", "_medium", "_large")
"""Endings of a metric's variants, which have the direction of the metric itself."""


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one.

    metric: the name of a score, which may begin with a direction or a kind and end in a finding or
    a group: `image_to_text_median_rank`, `hd95:nodule`, `ece_crossfit@male`.
    """
    name = metric.partition(":")[0].partition("@")[0]
    for ending in _VARIANTS:
        name = name.removesuffix(ending)
    return any(name == lower or name.endswith(f"_{lower}") for lower in LOWER_IS_BETTER)


def improvement(metric: str, before: float, now: float) -> float:
    """By how much a score got better, in the metric's unit; negative if it got worse."""
    return before - now if lower_is_better(metric) else now - before


def arrow(metric: str) -> str:
    """ "↓" for a metric that is better when it is lower, "↑" for others."""
    return "↓" if lower_is_better(metric) else "↑"
