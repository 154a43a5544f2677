"""Jackknife intervals: against DeLong's variance and formulas by hand, and at the ends."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from g2dbench.metrics.aggregate import PatientStatistic, scale_of, scores
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.classification import weighted_auc
from g2dbench.metrics.intervals import jackknife
from g2dbench.metrics.intervals.jackknife import jackknife_intervals

Z = stats.norm.isf(0.025)


def one(patients, statistic, scale="unit"):
    value = float(statistic(np.ones((1, len(patients)), np.int64))[0])
    return value, jackknife_intervals(patients, {"x": statistic}, {"x": value}, {"x": scale})["x"]


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 40)
    mean, found = one(np.arange(40), mean_of(values), "real")
    error = values.std(ddof=1) / np.sqrt(40)
    assert (found.low, found.high) == pytest.approx((mean - Z * error, mean + Z * error), rel=0.02)


def test_the_interval_of_an_auc_is_delongs_on_the_logit_scale() -> None:
    generator = np.random.default_rng(1)
    truth = np.arange(120) % 2
    score = generator.normal(size=120) + truth
    placements = score[truth == 1][:, None] > score[truth == 0]
    auc = placements.mean()
    variance = placements.mean(1).var(ddof=1) / 60 + placements.mean(0).var(ddof=1) / 60
    reach = Z * np.sqrt(variance) / (auc * (1 - auc))
    center = np.log(auc / (1 - auc))
    expected = 1 / (1 + np.exp(-(center + np.array([-reach, reach]))))
    value, found = one(np.arange(120), partial(weighted_auc, truth, score))
    assert value == pytest.approx(auc)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.002)


def test_images_of_one_patient_count_once() -> None:
    values = np.random.default_rng(2).random(50)
    single = one(np.arange(50), mean_of(values))[1]
    repeated = one(np.repeat(np.arange(50), 4), mean_of(np.repeat(values, 4)))[1]
    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high))


def test_the_order_of_images_does_not_matter_with_few_and_many_patients() -> None:
    generator = np.random.default_rng(3)
    for count in (30, 3 * jackknife.MAX_GROUPS):
        values, order = generator.random(count), generator.permutation(count)
        names = np.array([f"p{n}" for n in range(count)], object)
        before, after = one(names, mean_of(values))[1], one(names[order], mean_of(values[order]))[1]
        assert (before.low, before.high) == pytest.approx((after.low, after.high), rel=1e-9)


def test_many_patients_in_groups_give_nearly_the_same_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(4).random(2000)
    grouped = one(np.arange(2000), mean_of(values))[1]
    monkeypatch.setattr(jackknife, "MAX_GROUPS", 5000)
    each = one(np.arange(2000), mean_of(values))[1]
    assert grouped.high - grouped.low == pytest.approx(each.high - each.low, rel=0.12)
    assert (grouped.low + grouped.high) / 2 == pytest.approx((each.low + each.high) / 2, abs=2e-3)


def test_at_the_ends_the_interval_is_the_exact_binomial_one() -> None:
    value, found = one(np.arange(20), mean_of(np.ones(20)))
    assert (value, found.high) == (1.0, 1.0)
    exact = stats.binomtest(20, 20).proportion_ci()
    assert found.low == pytest.approx(exact.low)
    value, found = one(np.arange(20), mean_of(np.zeros(20)))
    assert (value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - exact.low)


def test_a_value_that_hangs_on_one_patient_has_no_interval() -> None:
    """One positive of 30 patients: without that patient the AUC is undefined."""
    truth, score = np.zeros(30), np.linspace(0, 1, 30)
    truth[20] = 1
    value, found = one(np.arange(30), partial(weighted_auc, truth, score))
    assert value == pytest.approx(20 / 29)
    assert np.isnan([found.low, found.high]).all()
    assert found.undefined == pytest.approx(1 / 30)
    only = np.full(30, np.nan)
    only[3] = 0.667
    found = one(np.arange(30), mean_of(only))[1]
    assert np.isnan([found.low, found.high]).all()
    assert found.bearers == 1


def test_one_patient_has_no_interval() -> None:
    assert np.isnan(one(["a", "a"], mean_of([0.2, 0.8]))[1].low)


def test_correlations_stay_inside_their_limits() -> None:
    values = np.clip(np.random.default_rng(5).normal(0.9, 0.3, 12), -1, 1)
    found = one(np.arange(12), mean_of(values), "correlation")[1]
    assert -1 < found.low < values.mean() < found.high < 1


@pytest.mark.parametrize(
    ("name", "value", "scale"),
    [
        ("auc:Edema", 0.5, "unit"), ("mcc", 0.2, "correlation"), ("hd95:x", 0.5, "real"),
        ("signed_cnr", 0.1, "real"), ("median_rank", 3.0, "bootstrap"),
        ("auc_gap", 0.1, "bootstrap"), ("auc@F", 0.7, "unit"), ("mine", 17.0, "real"),
    ],
)  # fmt: skip
def test_scales_by_name(name: str, value: float, scale: str) -> None:
    assert scale_of(name, value) == scale


def test_scores_state_how_many_patients_bear_them() -> None:
    patients = np.array([f"p{n}" for n in range(10)], object)
    values = np.where(np.arange(10) < 3, [0.1, 0.5, 0.9] + [0] * 7, np.nan)
    found = scores({"dice": PatientStatistic(patients, mean_of(values), 3)})["dice"]
    assert found.bearers == 2  # without the second the mean stays .5
    assert found.low < 0.5 < found.high


def test_a_mean_with_a_single_positive_patient_falls_back_to_the_bootstrap_and_says_so() -> None:
    patients = np.array([f"p{n:02d}" for n in range(30)], object)
    truth, score = np.zeros(30), np.linspace(0, 1, 30)
    truth[20] = 1
    statistic = partial(weighted_auc, truth, score)
    found = scores({"auc": PatientStatistic(patients, statistic, 30)})["auc"]
    assert found.low < found.value < found.high
    assert found.undefined == pytest.approx(1 / np.e, abs=0.05)
    one_mask = np.full(30, np.nan)
    one_mask[3] = 0.667
    found = scores({"dice": PatientStatistic(patients, mean_of(one_mask), 1)})["dice"]
    assert np.isnan([found.low, found.high]).all()
    assert found.bearers == 1
