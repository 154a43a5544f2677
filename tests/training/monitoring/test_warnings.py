"""Warnings: the limit of each rule, when they are printed, and when they are resolved."""

from collections.abc import Callable

import pytest
from support.training.monitored import recipe

from g2dbench.methods.g2d.model import G2D
from g2dbench.runs.folder import RunFolder
from g2dbench.training.monitoring import warnings
from g2dbench.training.monitoring.monitor import MonitorSettings

pytestmark = pytest.mark.integration


def printed_first(values: dict[str, float]) -> list[str]:
    """The warnings at the first check of a G2D training."""
    return warnings.WarningLog(G2D.warning_rules).update(values)


def test_each_rule_applies_at_its_limit_and_says_what_to_try() -> None:
    guess = {"r10": 0.055, "chance_r10": 0.05, "pool": 200.0}
    assert "no better than guessing" in printed_first(guess)[0]
    assert printed_first({**guess, "r10": 0.3}) == []
    assert printed_first({"r10": 1.0, "chance_r10": 1.0, "pool": 10.0}) == []
    cases = {
        "attention_entropy": [(0.98, "all but uniform"), (0.01, "single pixel"), (0.5, "")],
        "mask_empty": [(0.25, "25% of the pseudo masks are empty"), (0.0, "")],
        "mask_full": [(1.0, "100% of the pseudo masks cover the whole"), (0.05, "")],
        "mask_overlap": [(0.97, "all but the same"), (0.5, "")],
        "gradient_share_pa": [(0.95, "95% of the gradient at the encoder"), (0.6, "")],
    }
    for figure, values in cases.items():
        for value, words in values:
            found = printed_first({figure: value})
            assert len(found) == bool(words)
            assert all(words in text and "ry " in text for text in found)
    rules = (*warnings.RULES, *G2D.warning_rules)
    assert {rule.monitor for rule in rules} == {"r10", *cases}


def test_a_warning_is_printed_when_it_appears_and_when_it_is_resolved() -> None:
    log = warnings.WarningLog(G2D.warning_rules)
    values = [0.5, 0.98, 0.99, 0.5, 0.98, 0.5, 0.5, 0.5, 0.99]
    printed = [log.update({"attention_entropy": value}) for value in values]
    assert [len(lines) for lines in printed] == [0, 1, 0, 0, 0, 0, 1, 0, 1]
    assert printed[1][0].startswith("warning: the attention is all but uniform (0.980")
    assert printed[6] == [
        "resolved: the attention is no longer uniform (0.500 of the maximum entropy)"
    ]
    assert log.update({"mask_share": 0.1}) == []


def test_a_method_without_own_rules_has_the_common_ones() -> None:
    assert warnings.WarningLog(()).update({"attention_entropy": 0.99}) == []


def order(printed: list[str]) -> list[str]:
    words = ["uniform" if "all but uniform" in line else line[:7] for line in printed]
    return [word for word in words if word.startswith(("uniform", "epoch"))]


def test_warnings_wait_for_the_warm_up(fit: Callable[..., RunFolder]) -> None:
    flat = recipe(attention={"stride": 16, "scale": 1e-4})
    printed: list[str] = []
    fit("flat", recipe=flat, monitoring=MonitorSettings(every=3), echo=printed.append)
    # Checked from a quarter of the steps on, which is before the first of two epochs ends.
    assert order(printed) == ["uniform", "epoch 1", "epoch 2"]
    late = flat.model_copy(update={"optim": flat.optim.model_copy(update={"warmup_steps": 9})})
    printed.clear()
    fit("late", recipe=late, monitoring=MonitorSettings(every=3), echo=printed.append)
    assert order(printed) == ["epoch 1", "uniform", "epoch 2"]
