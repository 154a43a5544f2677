"""Warnings while training runs: each is told when it first applies, and when it no longer does.

A rule is a pure function of the figures of `log.csv` and `steps.csv`, so that a resumed training
knows from these files what was told before. Rules of one method are the method's own
(`Method.warning_rules`); those here are for every method.
"""

from collections.abc import Sequence

import numpy as np

from g2dbench.method import Figures, WarningRule

LOOKS_TO_RESOLVE = 2
"""Looks in a row at which a rule does not apply before its warning counts as resolved."""


def is_guessing(figures: Figures) -> bool:
    """Whether R@10 lies within three standard errors of chance (both directions of N queries).

    Never where the pool is so small that guessing is nearly always right.
    """
    share, queries = figures["chance_r10"], 2 * figures["pool"]
    limit = share + 3 * float(np.sqrt(share * (1 - share) / queries))
    return figures["r10"] <= limit < 1


RULES = (
    WarningRule(
        "r10",
        is_guessing,
        "held-out retrieval is no better than guessing (R@10 {r10:.3f} of {pool:.0f}, chance "
        "{chance_r10:.3f}): image and report have not found together. Try more epochs, more data, "
        "or another optim.lr",
        "held-out retrieval is better than guessing (R@10 {r10:.3f}, chance {chance_r10:.3f})",
    ),
)


class WarningLog:
    """Which rules apply by now, so that each is told once when it comes and once when it goes."""

    def __init__(self, rules: Sequence[WarningRule]) -> None:
        """rules: the method's own; those of every method are added."""
        self._rules = (*RULES, *rules)
        self._active: dict[WarningRule, int] = {}  # looks without it, for each that was told

    def look(self, figures: Figures) -> list[str]:
        """Judge some figures; what is to be told now."""
        found = []
        for rule in self._rules:
            if rule.figure in figures:
                found += self._news(rule, figures)
        return found

    def _news(self, rule: WarningRule, figures: Figures) -> list[str]:
        if rule.applies(figures):
            new = rule not in self._active
            self._active[rule] = 0
            return [f"warning: {rule.warning.format_map(figures)}"] if new else []
        if rule not in self._active:
            return []
        self._active[rule] += 1
        if self._active[rule] < LOOKS_TO_RESOLVE:
            return []
        del self._active[rule]
        return [f"resolved: {rule.resolved.format_map(figures)}"]
