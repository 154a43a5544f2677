"""Variance components: by hand, against statsmodels, for missing runs, and of simulated truth."""

import numpy as np
import pytest

from g2dbench.metrics.intervals.variance_components import variance_components

ONE_WAY = [
    1.555, 1.199, -0.452, -1.014, -0.887, -0.223, -2.589, -0.483, 0.035, 0.549, 0.737, 0.965, 0.621,
    1.252, 0.081, 1.576, -1.737, -0.72, -0.168, -0.977, -0.02, -0.199, 0.265, 0.943,
]  # fmt: skip
TWO_WAY = [
    0.007, -4.259, -0.7, 0.503, 0.896, -1.135, -0.927, 2.216, 2.175, 0.502, 0.802, 1.215, 0.406,
    0.096, 1.544, 0.969, 1.357, -0.122, 0.931, 0.421,
]  # fmt: skip
NESTED = [
    1.172, -0.641, -2.344, -2.089, -0.039, -0.226, 1.738, 1.689, 1.372, -0.677, -2.489, -4.466,
    -0.687, -2.694, -2.05, -1.064, 0.198, -0.673, 1.966, 1.211, 4.81, 6.714, 2.488, 1.334, -3.058,
    -1.111, -0.87, -0.302, -0.297, -3.168,
]  # fmt: skip


def test_one_way_by_hand() -> None:
    """Groups (1, 3) and (7, 9): mean square between 36, within 2, so (36 - 2) / 2."""
    found = variance_components([1, 3, 7, 9], {"a": "xxyy"})
    assert found.variances == {"a": pytest.approx(17)}
    assert (found.residual, found.residual_degrees) == (pytest.approx(2), 2)


def test_two_way_by_hand() -> None:
    """Rows (1, 2) and (5, 8): mean squares 25, 4 and 1, so 12, 1.5 and 1."""
    found = variance_components([1, 2, 5, 8], {"rows": "aabb", "columns": "xyxy"})
    assert found.variances == {"rows": pytest.approx(12), "columns": pytest.approx(1.5)}
    assert (found.residual, found.residual_degrees) == (pytest.approx(1), 1)


@pytest.mark.parametrize(
    ("values", "factors", "wanted", "residual"),
    [
        (ONE_WAY, {"a": np.repeat(range(6), 4)}, {"a": 0.46934}, 0.66124),
        (TWO_WAY, {"a": np.repeat(range(5), 4), "b": np.tile(range(4), 5)},
         {"a": 0.51444, "b": 0.68719}, 1.01709),
        (NESTED, {"a": np.repeat(range(5), 6), "s": np.repeat(range(15), 2)},
         {"a": 2.36525, "s": 2.54800}, 1.17128),
    ],
)  # fmt: skip
def test_balanced_designs_agree_with_statsmodels(
    values: list[float], factors: dict, wanted: dict[str, float], residual: float
) -> None:
    """REML of `mixedlm` of statsmodels 0.15, which equals the moments where none is negative."""
    found = variance_components(values, factors)
    assert found.variances == pytest.approx(wanted, abs=1e-4)
    assert found.residual == pytest.approx(residual, abs=1e-4)


def test_seeds_alone_have_their_sample_variance() -> None:
    found = variance_components([0.3, 0.5, 0.4], {"seed": [0, 1, 2], "subset": [0, 0, 0]})
    assert found.variances == {"seed": pytest.approx(np.var([0.3, 0.5, 0.4], ddof=1))}
    assert np.isnan(found.residual)
    assert found.fixed == ("subset",)


def test_seeds_that_change_together_are_one_factor() -> None:
    found = variance_components([0.3, 0.5, 0.4], {"head": [0, 1, 2], "pre": [5, 6, 7]})
    assert set(found.variances) == {"head + pre"}


def test_a_factor_that_the_runs_do_not_determine_is_named() -> None:
    """Every run has its own combination and the two factors' levels do not cross."""
    found = variance_components([1.0, 2.0, 4.0, 3.0], {"a": [0, 0, 1, 1], "b": [0, 1, 2, 3]})
    assert set(found.variances) | set(found.inseparable) == {"a", "b"}
    assert found.residual_degrees == 0


def test_an_estimate_below_0_is_0_and_named() -> None:
    found = variance_components([1, 9, 2, 8], {"a": "xxyy"})
    assert (found.variances["a"], found.negative) == (0.0, ("a",))


def test_no_runs_or_equal_values_have_no_variance() -> None:
    assert variance_components([0.5], {"a": [0]}).variances == {}
    assert variance_components([0.5] * 4, {"a": "xxyy"}).variances == {"a": pytest.approx(0)}
    with pytest.raises(ValueError, match="finite"):
        variance_components([0.5, np.nan], {"a": "xy"})


@pytest.mark.parametrize("missing", [0, 9])
def test_simulated_truth_is_recovered_from_crossed_runs_with_gaps(missing: int) -> None:
    rng = np.random.default_rng(missing)
    truth = {"subset": 4.0, "head": 1.0, "pre": 2.25}
    grid = np.array(np.meshgrid(range(4), range(3), range(4))).reshape(3, -1)
    total = dict.fromkeys([*truth, "rest"], 0.0)
    for _ in range(400):
        keep = np.sort(rng.permutation(grid.shape[1])[missing:])
        factors = dict(zip(truth, grid[:, keep], strict=True))
        values = rng.normal(0, 0.5, keep.size)
        for name, variance in truth.items():
            values = values + rng.normal(0, variance**0.5, 4)[factors[name]]
        found = variance_components(values, factors)
        for name in truth:
            total[name] += found.variances[name] / 400
        total["rest"] += found.residual / 400
    # standard error of the mean of 400: about 5 to 7 % of each variance
    assert total == pytest.approx({**truth, "rest": 0.25}, rel=0.2)
