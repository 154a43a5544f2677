"""The gate and `compare` where a lower score is the better one."""

import math
from pathlib import Path

import pytest
from support.mask_cells import mask_cell
from support.reporting.results import result, stored

from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.reporting.gate import regression_gate
from g2dbench.reporting.html.differences import difference_records
from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
from g2dbench.reporting.model_comparison import compare_models
from g2dbench.reporting.stored_results import read_results
from g2dbench.result import Result, Score

LOWER = ("hd95", "ece", "image_to_text_median_rank", "brier_crossfit")


def of(metric: str, value: float) -> Result:
    return result(scores={metric: Score(value=value)}).model_copy(update={"metric": metric})


@pytest.mark.parametrize("metric", LOWER)
@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [(0.5, 0.4, "rose"), (0.5, 0.6, "fell"), (0.5, 0.505, "same"), (0.5, 0.51, "same"),
     (0.5, 0.49, "same"), (0.5, math.nan, "fell")],
)  # fmt: skip
def test_a_growing_distance_fails_the_gate(
    metric: str, before: float, now: float, verdict: str
) -> None:
    changes = regression_gate.compare(
        stored(of(metric, before)), stored(of(metric, now)), {"": 0.01}
    )
    assert [change.verdict for change in changes] == [verdict]
    assert regression_gate.exit_code(changes) == (verdict == "fell")
    mirrored = regression_gate.compare(
        stored(of("dice", before)), stored(of("dice", 2 * before - now)), {"": 0.01}
    )
    assert [change.verdict for change in mirrored] == [verdict]


def test_a_second_metric_of_the_other_direction_has_its_own(tmp_path: Path) -> None:
    both = {"dice": Score(value=0.5), "hd95": Score(value=9.0)}
    better = {"dice": Score(value=0.5), "hd95": Score(value=3.0)}
    limits = {"": 0.01, "hd95": 1.0}
    changes = regression_gate.compare(
        stored(result(scores=both)), stored(result(scores=better)), limits
    )
    assert {change.metric: change.verdict for change in changes} == {"dice": "same", "hd95": "rose"}


def test_compare_calls_the_smaller_distance_better(tmp_path: Path) -> None:
    mask_cell(tmp_path, "near", 0, [8] * 11 + [7])
    mask_cell(tmp_path, "far", 0, [2, 1] * 6)
    found = compare_models("near", "far", read_results(tmp_path)[0], Registry(), "hd95")
    (cell,) = found.cells
    assert cell.first < cell.second
    assert cell.verdict == "better"


def test_the_report_compares_with_the_smallest_distance() -> None:
    def far(model: str, value: float) -> Result:
        found = result(model=model, scores={"hd95": Score(value=value)})
        return found.model_copy(update={"metric": "hd95"})

    board = build_leaderboard([far("near", 1.0), far("far", 9.0)])
    (record,), _ = difference_records(board, {}, Registry(), quiet)
    assert record["reference"] == "near"
    assert [row["model"] for row in record["rows"]] == ["far"]
