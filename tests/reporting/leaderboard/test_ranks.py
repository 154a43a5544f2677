"""Mean rank and Borda count by hand, in both directions, with ties and missing cells."""

import numpy as np
import pytest
from support.reporting.results import result

from g2dbench.reporting.leaderboard.leaderboard import Leaderboard, build_leaderboard
from g2dbench.result import Result, Score


def scored(model: str, data: str, value: float, metric: str = "dice") -> Result:
    found = result(model=model, data=data, scores={metric: Score(value=value)})
    return found.model_copy(update={"metric": metric})


def ranks(board: Leaderboard) -> dict[str, tuple[float, float]]:
    return {model: (rank.mean, rank.borda) for model, rank in board.ranks.items()}


def test_a_missing_cell_counts_in_borda_but_not_in_the_mean_rank() -> None:
    values = {("a", "x"): 0.9, ("b", "x"): 0.5, ("c", "x"): 0.5, ("b", "y"): 0.7, ("c", "y"): 0.2}
    results = [scored(model, data, value) for (model, data), value in values.items()]
    # x: a beats two; b and c tie for place 2, half a point each. y: b beats c; a did not run
    assert ranks(build_leaderboard(results)) == {"a": (1, 2), "b": (1.5, 1.5), "c": (2, 0.5)}
    assert build_leaderboard(results, rank="mean").models == ("a", "b", "c")
    more = [*results, scored("b", "z", 0.3), scored("c", "z", 0.1)]
    assert build_leaderboard(more, rank="mean").models == ("a", "b", "c")
    assert build_leaderboard(more, rank="borda").models == ("b", "a", "c")


def test_the_smaller_distance_is_the_better_rank() -> None:
    board = build_leaderboard([scored("far", "x", 9.0, "hd95"), scored("near", "x", 1.0, "hd95")])
    assert board.models == ("near", "far")
    assert ranks(board) == {"near": (1, 1), "far": (2, 0)}


@pytest.mark.parametrize("seed", range(8))
def test_both_agree_with_counting_pairs(seed: int) -> None:
    values = np.random.default_rng(seed).choice([0.1, 0.2, 0.3], seed + 1).tolist()
    board = build_leaderboard([scored(f"m{k}", "x", v) for k, v in enumerate(values)])
    for k, own in enumerate(values):
        others = values[:k] + values[k + 1 :]
        found = board.ranks[f"m{k}"]
        assert found.mean == 1 + sum(other > own for other in others)
        assert found.borda == pytest.approx(sum((v < own) + (v == own) / 2 for v in others))
