"""Statistics evaluated at once give what each gives alone, and share their work."""

import numpy as np
import pytest

from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.bootstrap import bootstrap, bootstrap_all, mean_of
from g2dbench.metrics.confusion import decision_statistics
from g2dbench.metrics.ranking import ranking_statistics
from g2dbench.metrics.statistic import OneOf, each_of, evaluate, mean_over, undefined


class Counted:
    """Computes sum and size, and notes what it was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, weights, names):
        self.calls.append(set(names))
        values = {"sum": weights @ np.arange(3.0), "size": weights.sum(axis=1).astype(float)}
        return {name: values[name] for name in names}


WEIGHTS = np.array([[1, 1, 1], [0, 2, 0]])


def test_shared_work_is_done_once_and_only_for_what_is_asked():
    counted = Counted()
    parts = each_of(counted, ["sum", "size"])
    mean = mean_over([parts["sum"], parts["size"]])
    found = evaluate([parts["sum"], mean, OneOf(counted, "sum"), mean], WEIGHTS)
    assert counted.calls == [{"sum", "size"}]
    assert [values.tolist() for values in found] == [[3, 2], [3, 2], [3, 2], [3, 2]]
    evaluate([parts["size"]], WEIGHTS)
    assert counted.calls[1:] == [{"size"}]
    assert mean(WEIGHTS).tolist() == [3, 2]


def test_means_of_means_and_of_nothing():
    inner = mean_over([mean_of([0.0, 1.0, 2.0]), mean_of([2.0, 3.0, 4.0])])
    outer = mean_over([inner, mean_of([4.0, 4.0, 4.0])])
    assert evaluate([outer, inner], WEIGHTS)[0].tolist() == [3.0, 3.0]
    assert np.isnan(evaluate([mean_over([]), mean_over([inner, undefined])], WEIGHTS)).all()


def test_a_statistic_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"the statistic gave \(2, 3\) for 2 resamples"):
        evaluate([lambda weights: weights], WEIGHTS)


def make_statistics(rng, images):
    truth, score = rng.integers(0, 2, images), np.round(rng.random(images), 1)
    return {**decision_statistics(truth, score > 0.5), **ranking_statistics(truth, score)}


def test_intervals_of_many_statistics_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 20, 60).astype(object)
    statistics = make_statistics(rng, 60)
    found = bootstrap_all(patients, statistics, resamples=60, seed=3)
    for name, statistic in statistics.items():
        assert found[name] == bootstrap(patients, statistic, resamples=60, seed=3), name


def test_scores_do_not_depend_on_what_else_is_scored():
    rng = np.random.default_rng(1)
    patients, others = rng.integers(0, 20, 60).astype(object), np.arange(60).astype(object)
    by_finding = [make_statistics(rng, 60) for _ in range(3)]
    known = np.ones((60, 3), bool)
    metrics = {}
    for name in by_finding[0]:
        each = {f"finding {k}": statistics[name] for k, statistics in enumerate(by_finding)}
        metrics |= per_finding(name, patients, each, known)
    metrics["other"] = PatientStatistic(others, mean_of(rng.random(60)), 60)
    metrics["nothing"] = PatientStatistic(patients, undefined, 0)
    found = scores(metrics)
    assert list(found) == list(metrics)
    assert np.isnan(found["nothing"].value)
    for name in ("auc", "f1:finding 1", "oracle_acc_kad", "other"):
        assert scores({name: metrics[name]})[name] == found[name]
        assert found[name].value == metrics[name].value
