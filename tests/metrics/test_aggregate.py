"""Gaps between groups: by hand, degenerate, and by chance alone."""

import numpy as np
import pytest

from g2dbench.metrics.aggregate import PatientStatistic, gap_p_value, per_group, scores, within
from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.ranking import RankedScores, ranking_statistics

ONCE = np.ones((1, 6), int)


def metric_of(values, patients=None):
    patients = np.arange(len(values)) if patients is None else patients
    return PatientStatistic(np.asarray(patients, object), mean_of(values), len(values))


def test_groups_worked_by_hand():
    metric = metric_of([1.0, 3.0, 5.0, 5.0, 2.0, 9.0])
    found = per_group("x", metric, ["F", "F", "M", "M", None, np.nan])
    values = {name: part.value for name, part in found.items()}
    assert values == {"x_gap": 3.0, "x_lowest": 2.0, "x_highest": 5.0, "x@F": 2.0, "x@M": 5.0}
    assert [part.n for part in found.values()] == [4, 4, 4, 2, 2]
    counts = np.array([True, False, True, True, True, True])
    assert per_group("x", metric, ["F", "F", "M", "M", None, None], counts)["x@F"].n == 1


def test_a_group_is_the_metric_of_its_images():
    rng = np.random.default_rng(0)
    truth, score = rng.integers(0, 2, 40), rng.random(40)
    images = rng.random(40) < 0.5
    auc = within(ranking_statistics(truth, score)["auc"], images)
    alone = RankedScores(truth[images], score[images])
    weights = rng.integers(0, 3, (1000, 40))
    expected = alone.value("auc", weights[:, images])
    assert np.array_equal(auc(weights), expected, equal_nan=True)


def test_a_resample_without_a_group_has_no_gap():
    metric = metric_of([1.0, 3.0])
    gap = per_group("x", metric, ["F", "M"])["x_gap"].statistic
    assert np.array_equal(gap(np.array([[1, 1], [2, 0]])), [2.0, np.nan], equal_nan=True)


def test_groups_undefined_on_the_whole_set_are_left_out_of_the_gap():
    metric = metric_of([1.0, 3.0, np.nan])
    found = per_group("x", metric, ["F", "M", "other"])
    assert np.isnan(found["x@other"].value)
    assert found["x_gap"].value == 2.0
    one = per_group("x", metric, ["F", "F", "F"])
    assert np.isnan([one["x_gap"].value, one["x_lowest"].value]).all()
    assert one["x@F"].value == 2.0
    none = per_group("x", metric, [None] * 3)
    assert np.isnan(none["x_gap"].value)
    with pytest.raises(ValueError, match="do not fit"):
        per_group("x", metric, ["F"])


def test_intervals_are_over_patients():
    values = np.repeat([0.0, 1.0, 5.0, 6.0], 10)
    metric = metric_of(values, np.repeat(list("abcd"), 10))
    found = scores(per_group("x", metric, np.repeat(["F", "M"], 20)))
    assert found["x_gap"].value == 5.0
    assert (found["x_gap"].low, found["x_gap"].high) == (4.0, 6.0)


def test_the_p_value_of_a_gap_by_hand():
    # 4 patients, 2 in each group: of the 6 divisions, 2 have the gap 4
    metric = metric_of([0.0, 1.0, 4.0, 5.0])
    found = gap_p_value(metric, ["F", "F", "M", "M"], resamples=3000)
    assert found == pytest.approx(2 / 6, abs=0.03)
    assert found == gap_p_value(metric, ["F", "F", "M", "M"], resamples=3000)
    assert gap_p_value(metric_of([1.0] * 4), ["F", "F", "M", "M"], resamples=20) == 1.0


def test_equal_groups_have_small_p_values_as_often_as_they_should():
    rng = np.random.default_rng(1)
    found = [
        gap_p_value(metric_of(rng.normal(size=30)), rng.choice(["a", "b", "c"], 30), resamples=39)
        for _ in range(200)
    ]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.06)
    shifted = np.repeat([0.0, 2.0], 15) + rng.normal(size=30)
    assert gap_p_value(metric_of(shifted), np.repeat(["a", "b"], 15), resamples=199) == 1 / 200


def test_undefined_p_values_and_patients_of_two_groups():
    metric = metric_of([1.0, 2.0, np.nan])
    assert np.isnan(gap_p_value(metric, ["F", "F", "F"], resamples=9))
    assert np.isnan(gap_p_value(metric, ["F", "F", "M"], resamples=9))
    with pytest.raises(ValueError, match="two groups"):
        gap_p_value(metric_of([1.0, 2.0], ["p", "p"]), ["F", "M"], resamples=9)
