"""Warnings during training: each is printed when it first applies and when it is resolved.

A rule is a pure function of the values in `log.csv` and `steps.csv`, so that a resumed training
knows from these files which warnings were printed. The rules here apply to every method; a method
adds its own (`Method.warning_rules`).
"""

from collections.abc import Sequence

import numpy as np

from g2dbench.method import MonitorValues, WarningRule

CHECKS_TO_RESOLVE = 2
"""A warning is resolved once its rule does not apply at this many checks in a row."""


def is_guessing(values: MonitorValues) -> bool:
    """Whether R@10 lies within three standard errors of chance (both directions of N queries).

    Always false if the pool is so small that guessing is nearly always right.
    """
    share, queries = values["chance_r10"], 2 * values["pool"]
    limit = share + 3 * float(np.sqrt(share * (1 - share) / queries))
    return values["r10"] <= limit < 1


RULES = (
    WarningRule(
        "r10",
        is_guessing,
        "held-out retrieval is no better than guessing (R@10 {r10:.3f} of {pool:.0f}, chance "
        "{chance_r10:.3f}): images and reports are not aligned yet. Try more epochs, more data, "
        "or another optim.lr",
        "held-out retrieval is better than guessing (R@10 {r10:.3f}, chance {chance_r10:.3f})",
    ),
)


class WarningLog:
    """The active warnings, so that each is printed once when it appears and once when resolved."""

    def __init__(self, rules: Sequence[WarningRule]) -> None:
        """rules: the method's own; `RULES` are added."""
        self._rules = (*RULES, *rules)
        self._active: dict[WarningRule, int] = {}  # warning -> checks in a row without it

    def update(self, values: MonitorValues) -> list[str]:
        """Check the rules on new values; returns the sentences to print now."""
        found = []
        for rule in self._rules:
            if rule.monitor in values:
                found += self._judge(rule, values)
        return found

    def _judge(self, rule: WarningRule, values: MonitorValues) -> list[str]:
        if rule.applies(values):
            new = rule not in self._active
            self._active[rule] = 0
            return [f"warning: {rule.warning.format_map(values)}"] if new else []
        if rule not in self._active:
            return []
        self._active[rule] += 1
        if self._active[rule] < CHECKS_TO_RESOLVE:
            return []
        del self._active[rule]
        return [f"resolved: {rule.resolved.format_map(values)}"]
