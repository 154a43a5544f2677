"""Bootstrap, paired tests and Holm: by hand, degenerate, and against scipy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from g2dbench.metrics import bootstrap as bs
from g2dbench.metrics.classification import weighted_auc

NAN = float("nan")


def all_multiplicities(units, **options):
    return np.concatenate(list(bs.multiplicities(units, **options)))


def test_a_patient_is_sampled_with_all_its_images():
    units = np.array(["b", "a", "b", "c", "b"])
    weights = all_multiplicities(units, resamples=200)
    assert weights.shape == (200, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(5), abs=0.2)


def test_resamples_depend_on_the_seed_but_not_on_row_order_chunks_or_number(monkeypatch):
    units = np.array([3, 1, 2, 3, 1, 9])
    whole = all_multiplicities(units, resamples=50, seed=4)
    order = np.array([5, 0, 3, 1, 4, 2])
    assert np.array_equal(all_multiplicities(units[order], resamples=50, seed=4), whole[:, order])
    assert np.array_equal(all_multiplicities(units, resamples=20, seed=4), whole[:20])
    assert not np.array_equal(all_multiplicities(units, resamples=50, seed=5), whole)
    monkeypatch.setattr(bs, "_MAX_ELEMENTS", 40)
    assert max(len(chunk) for chunk in bs.multiplicities(units, resamples=50, seed=4)) == 6
    assert np.array_equal(all_multiplicities(units, resamples=50, seed=4), whole)


def test_bootstrap_is_the_percentiles_of_the_means_of_the_sampled_images():
    values, units = np.array([0.0, 1.0, 4.0, 2.0]), ["a", "b", "c", "c"]
    means = [
        np.repeat(values, row).mean() for row in all_multiplicities(units, resamples=300, seed=1)
    ]
    found = bs.bootstrap(units, bs.mean_of(values), resamples=300, seed=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert (found.undefined, found.resamples) == (0.0, 300)


def test_bootstrap_agrees_with_scipys_percentile_method():
    values = np.random.default_rng(0).normal(size=80)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1)
    found = bs.bootstrap(np.arange(80), bs.mean_of(values), resamples=4000)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.02)


def test_images_of_one_patient_widen_the_interval():
    values = np.repeat(np.random.default_rng(0).normal(size=30), 10)
    independent = bs.bootstrap(np.arange(300), bs.mean_of(values))
    clustered = bs.bootstrap(np.arange(300) // 10, bs.mean_of(values))
    assert clustered.high - clustered.low > 2 * (independent.high - independent.low)


def test_undefined_resamples_are_excluded_and_their_share_is_reported():
    # one positive of four patients: missing from (3/4)**4 of the resamples
    found = bs.bootstrap(range(4), lambda w: weighted_auc([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], w))
    assert found.undefined == pytest.approx(0.316 + 4**-4, abs=0.05)
    assert (found.low, found.high) == (1.0, 1.0)


@pytest.mark.parametrize("units", [[], ["a"], ["a", "a"]])
def test_fewer_than_two_patients_have_no_interval(units):
    values = np.arange(len(units), dtype=float)
    found = bs.bootstrap(units, bs.mean_of(values), resamples=10)
    assert np.isnan([found.low, found.high]).all()
    paired = bs.paired_bootstrap(bs.mean_of(values), bs.mean_of(values), units, resamples=10)
    assert np.isnan([paired.low, paired.high, paired.p_value]).all()


def test_a_statistic_that_is_never_defined_has_no_interval():
    found = bs.bootstrap([1, 2], bs.mean_of([NAN, NAN]), resamples=10)
    assert np.isnan(found.low)
    assert found.undefined == 1.0


def test_invalid_arguments_are_refused():
    mean = bs.mean_of([1.0, 2.0])
    for units in (["a", None], ["a", NAN]):
        with pytest.raises(ValueError, match="row 1 has no patient"):
            bs.bootstrap(units, mean)
    for options in ({"resamples": 0}, {"seed": -1}, {"level": 1.0}):
        with pytest.raises(ValueError):
            bs.bootstrap([1, 2], mean, **options)
    with pytest.raises(ValueError, match="the statistic gave"):
        bs.bootstrap([1, 2], lambda weights: weights, resamples=5)
    with pytest.raises(ValueError, match="do not fit"):
        bs.bootstrap([1, 2, 3], mean)


def test_weighted_mean_by_hand():
    weights = np.array([[1, 1, 1], [0, 3, 1], [0, 9, 0]])
    found = bs.weighted_mean([2.0, NAN, 4.0], weights)
    assert np.array_equal(found, [3.0, 4.0, NAN], equal_nan=True)


def test_paired_difference_uses_the_same_resamples_for_both():
    values = np.random.default_rng(0).normal(size=50)
    found = bs.paired_bootstrap(bs.mean_of(values + 0.25), bs.mean_of(values), np.arange(50))
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    expanded = 2 * stats.t.sf(stats.norm.isf(1 / 1001) * np.sqrt(49 / 50), 49)
    assert found.p_value == pytest.approx(expanded)


@pytest.mark.parametrize(("units", "tail"), [(10, 0.0086), (20, 0.0159), (40, 0.0203)])
def test_the_paired_interval_is_expanded_for_few_units(units: int, tail: float) -> None:
    """The tails by hand: t of .975 with n - 1 degrees, times sqrt(n / (n - 1)), as a normal's."""
    values = np.random.default_rng(units).normal(size=units)
    rows = np.arange(units)
    zero = bs.mean_of(np.zeros(units))
    found = bs.paired_bootstrap(bs.mean_of(values), zero, rows, resamples=4000)
    blocks = bs.multiplicities(rows, resamples=4000)
    plain = np.concatenate([bs.mean_of(values)(weights) for weights in blocks])
    wanted = np.quantile(plain, [tail, 1 - tail])
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=0.01)


def test_p_is_below_5_per_cent_if_and_only_if_the_paired_interval_excludes_0() -> None:
    rng = np.random.default_rng(0)
    agree = 0
    for _ in range(60):
        values, zero = rng.normal(0.5, 1, 20), bs.mean_of(np.zeros(20))
        found = bs.paired_bootstrap(bs.mean_of(values), zero, np.arange(20))
        agree += (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    assert agree >= 57  # the added 1 in p may decide a close case


def test_equal_models_do_not_differ():
    values = bs.mean_of(np.arange(9.0))
    found = bs.paired_bootstrap(values, values, np.arange(9))
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert bs.paired_permutation(np.arange(9.0), np.arange(9.0), np.arange(9)) == 1.0


def test_paired_p_value_agrees_with_the_t_test_and_with_the_interval():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.25, 1, 120), rng.normal(0, 1, 120)
    expected = stats.ttest_rel(first, second).pvalue
    found = bs.paired_bootstrap(
        bs.mean_of(first), bs.mean_of(second), np.arange(120), resamples=4000
    )
    assert found.p_value == pytest.approx(expected, abs=0.02)
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_permutation_of_three_patients_worked_by_hand():
    # per patient +3, +1, +1: |sum| = 5 only for +++ and ---
    first, second = [1.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]
    assert bs.paired_permutation(first, second, ["a", "a", "b", "c"]) == 2 / 8


@pytest.mark.parametrize("seed", range(3))
def test_permutation_equals_scipys_exact_test(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 5, (2, 8)).astype(float)
    expected = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples"
    ).pvalue
    assert bs.paired_permutation(first, second, np.arange(8)) == pytest.approx(expected)


def test_random_permutation_agrees_with_the_exact_one_and_is_repeatable():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.4, 1, 12), rng.normal(size=12)
    exact = bs.paired_permutation(first, second, np.arange(12), resamples=5000)
    sampled = bs.paired_permutation(first, second, np.arange(12), resamples=4000)
    assert sampled == pytest.approx(exact, abs=0.03)
    assert sampled == bs.paired_permutation(first, second, np.arange(12), resamples=4000)


def test_permutation_excludes_rows_undefined_in_both_and_refuses_incomplete_pairs():
    assert bs.paired_permutation([1.0, NAN, 1.0], [0.0, NAN, 0.0], [1, 2, 3]) == 0.5
    assert np.isnan(bs.paired_permutation([NAN], [NAN], [1]))
    assert np.isnan(bs.paired_permutation([], [], []))
    with pytest.raises(ValueError, match="row 1"):
        bs.paired_permutation([1.0, NAN], [0.0, 1.0], [1, 2])
    with pytest.raises(ValueError, match="must fit"):
        bs.paired_permutation([1.0], [0.0, 1.0], [1, 2])


def test_holm_worked_by_hand():
    assert bs.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert bs.holm([0.9, 0.6]).tolist() == [1.0, 1.0]
    assert bs.holm([]).size == 0


def test_holm_counts_only_the_comparisons_made():
    found = bs.holm([0.01, NAN, 0.03])
    assert np.array_equal(found, [0.02, NAN, 0.03], equal_nan=True)
    for broken in ([1.1], [-0.1], [[0.1]]):
        with pytest.raises(ValueError, match="p-values"):
            bs.holm(broken)


def test_holm_is_the_closure_of_bonferroni_tests():
    p = np.random.default_rng(0).random(5) ** 3
    adjusted = bs.holm(p)
    for k in range(5):
        others = [j for j in range(5) if j != k]
        subsets = [s for n in range(5) for s in itertools.combinations(others, n)]
        closed = max(min(1.0, (len(s) + 1) * min(p[[k, *s]])) for s in subsets)
        assert adjusted[k] == pytest.approx(closed)
