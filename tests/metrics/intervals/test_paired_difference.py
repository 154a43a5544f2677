"""Paired differences: SciPy's paired t-test and TOST, by hand, degenerate, rate of false alarms."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.classification import weighted_auc
from g2dbench.metrics.intervals.image_means import image_means
from g2dbench.metrics.intervals.paired_difference import paired_difference
from g2dbench.metrics.segmentation import OverlapCounts
from g2dbench.metrics.statistic import mean_over

RANDOM = np.random.default_rng(7)
N = 40
IDS = np.array([f"p{n}" for n in range(N)], object)
FIRST, SECOND = RANDOM.normal(0.6, 0.1, N), RANDOM.normal(0.55, 0.1, N)


def test_means_agree_with_scipy() -> None:
    found = paired_difference([(mean_of(FIRST), mean_of(SECOND))], IDS)
    difference = FIRST - SECOND
    assert found.value == pytest.approx(difference.mean())
    assert found.error == pytest.approx(stats.sem(difference))
    assert found.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert (found.patients, found.degrees, found.test) == (N, N - 1, "permutation")
    margin = 0.1
    sides = [
        stats.ttest_1samp(difference, -margin, alternative="greater").pvalue,
        stats.ttest_1samp(difference, margin, alternative="less").pvalue,
    ]
    assert found.equivalence_p(margin) == pytest.approx(max(sides))
    wanted = stats.permutation_test(
        (FIRST, SECOND), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples",
        vectorized=True, n_resamples=5000, rng=0,
    ).pvalue  # fmt: skip
    more = paired_difference([(mean_of(FIRST), mean_of(SECOND))], IDS, resamples=5000)
    assert more.p_value == pytest.approx(wanted, abs=0.03)  # three standard errors of both


def test_the_detectable_difference_is_found_in_four_of_five_experiments() -> None:
    found = paired_difference([(mean_of(FIRST), mean_of(SECOND))], IDS)
    effect = found.detectable / (found.error * np.sqrt(N))
    noncentral = stats.nct(N - 1, effect * np.sqrt(N))
    power = noncentral.sf(stats.t.isf(0.025, N - 1))
    assert power == pytest.approx(0.8, abs=0.01)


def test_a_p_beyond_the_resamples_is_that_of_the_t_test() -> None:
    values = np.random.default_rng(0).normal(1.0, 1.0, 60)
    patients = np.arange(60).astype(str).astype(object)
    found = paired_difference([(mean_of(values), mean_of(np.zeros(60)))], patients)
    wanted = stats.ttest_1samp(values, 0.0).pvalue
    assert wanted < 1e-6
    assert found.test == "permutation"
    assert found.p_value == pytest.approx(wanted)
    few = paired_difference([(mean_of(values[:8]), mean_of(np.zeros(8)))], patients[:8])
    assert few.p_value >= 2 / 2**8  # all swaps were tried: this p is exact


def test_a_bootstrap_p_beyond_the_resamples_is_small_enough_for_many_comparisons() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0.0, 1.0], 60)
    good, bad = truth * 3 + rng.normal(size=120), rng.normal(size=120)
    pair = (partial(weighted_auc, truth, good), partial(weighted_auc, truth, bad))
    found = paired_difference([pair], np.arange(120).astype(str).astype(object))
    assert found.test == "bootstrap"
    assert found.p_value < 1e-6
    assert found.low > 0


def test_equivalence_agrees_with_statsmodels() -> None:
    """`ttost_paired(a, b, -.05, .05)` of statsmodels 0.15."""
    random = np.random.default_rng(1)
    random.random(20)
    a, b = random.normal(0.6, 0.1, 40), random.normal(0.58, 0.1, 40)
    found = paired_difference([(mean_of(a), mean_of(b))], IDS)
    assert found.equivalence_p(0.05) == pytest.approx(0.051176867420675655)


def test_several_seeds_add_the_variance_of_the_seeds_by_hand() -> None:
    shifts = (0.0, 0.03, -0.06)
    pairs = [(mean_of(FIRST + shift), mean_of(SECOND)) for shift in shifts]
    found = paired_difference(pairs, IDS)
    over_seeds = np.var(shifts, ddof=1) / 3
    over_patients = stats.sem(FIRST - SECOND) ** 2
    assert found.error == pytest.approx(np.sqrt(over_seeds + over_patients))
    freedom = (over_seeds + over_patients) ** 2 / (over_seeds**2 / 2 + over_patients**2 / (N - 1))
    assert found.degrees == pytest.approx(freedom)
    reach = stats.t.isf(0.025, freedom) * found.error
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))
    assert found.effect_size == pytest.approx(
        found.value / (FIRST - SECOND).std(ddof=1)
    )  # between patients, not seeds


def test_training_seeds_and_subset_seeds_are_two_sources() -> None:
    pairs = [(mean_of(FIRST + s + d), mean_of(SECOND)) for s in (0, 0.02) for d in (0, 0.05)]
    seeds = {"training": [0, 0, 1, 1], "subset": [0, 1, 0, 1]}
    found = paired_difference(pairs, IDS, seeds)
    wanted = stats.sem(FIRST - SECOND) ** 2 + np.var([0, 0.02], ddof=1) / 2 + 0.05**2 / 4
    assert found.error == pytest.approx(np.sqrt(wanted))
    same = paired_difference(pairs, IDS, {"training": range(4), "subset": range(4)})
    assert same.error == paired_difference(pairs, IDS).error  # one source named twice


def test_equal_models_differ_by_nothing_and_are_equivalent() -> None:
    for count in (1, 3):
        found = paired_difference([(mean_of(FIRST), mean_of(FIRST))] * count, IDS)
        assert (found.value, found.error, found.p_value, found.effect_size) == (0, 0, 1, 0)
        assert found.equivalence_p(0.01) == 0


def test_one_patient_has_no_test() -> None:
    found = paired_difference([(mean_of(FIRST), mean_of(SECOND))], np.array(["p"] * N, object))
    assert np.isnan([found.p_value, found.error, found.equivalence_p(0.1)]).all()


def test_an_auc_is_tested_by_bootstrap() -> None:
    truth = (np.arange(N) % 2).astype(float)
    one, other = FIRST + 0.2 * truth, SECOND + 0.1 * truth
    found = paired_difference(
        [(partial(weighted_auc, truth, one), partial(weighted_auc, truth, other))], IDS
    )
    assert found.test == "bootstrap"
    assert 0.01 < found.error < 0.2


def test_means_over_images_are_recognized() -> None:
    counts = [np.array(c, float) for c in ([4, 0, 2, 1], [6, 1, 2, 3], [5, 0, 4, 2], [9] * 4)]
    overlap = OverlapCounts(*counts).statistics()
    found = image_means(overlap["dice_positive"], 4)
    assert found is not None
    assert found.values[0] == pytest.approx([8 / 11, np.nan, 4 / 6, 2 / 5], nan_ok=True)
    assert found.parts.sum() == pytest.approx(np.mean([8 / 11, 4 / 6, 2 / 5]))
    assert image_means(overlap["dice_pooled"], 4) is None
    both = image_means(mean_over([overlap["dice_positive"], mean_of([1.0, 2, 3, 4])]), 4)
    assert both is not None
    assert both.parts.sum() == pytest.approx((found.parts.sum() + 2.5) / 2)
    assert both.patients(np.array(list("abbc"), object)) == 3


def test_several_images_of_a_patient_are_one_cluster() -> None:
    """Two copies of each image say no more than one: the error stays."""
    twice, ids = np.repeat(FIRST - SECOND, 2), np.repeat(IDS, 2)
    means = image_means(mean_of(twice), 2 * N)
    assert means is not None
    assert means.standard_error(ids) == pytest.approx(stats.sem(FIRST - SECOND))


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "seeds"), [(30, 1), (30, 3), (100, 3)])
def test_equal_methods_are_called_different_in_at_most_six_per_cent(
    patients: int, seeds: int
) -> None:
    """Both methods vary over patients and, if trained several times, over seeds."""
    random = np.random.default_rng(patients + seeds)
    ids = np.array([f"p{n // 2}" for n in range(2 * patients)], object)
    hits = 0
    for _ in range(300):
        common = np.repeat(random.normal(0, 0.1, (2, patients)), 2, axis=1)
        pairs = []
        for _ in range(seeds):
            shift = random.normal(0, 0.02, (2, 1)) * (seeds > 1)
            values = common + shift + random.normal(0, 0.1, (2, 2 * patients))
            pairs.append((mean_of(values[0]), mean_of(values[1])))
        hits += paired_difference(pairs, ids, resamples=200).p_value < 0.05
    assert hits / 300 <= 0.075  # 5 % and two standard errors
