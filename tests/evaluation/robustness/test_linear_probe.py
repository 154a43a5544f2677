"""The linear probe: against scikit-learn on standardized features, and what cannot be fitted."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from g2dbench.errors import BadData
from g2dbench.evaluation.robustness.linear_probe import Labeled, fit_probe

PENALTIES = (1e-3, 1e-1, 10.0)


def split(count: int, seed: int, findings: int = 2, width: int = 6) -> Labeled:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width)) * [1, 10, 100, 0.1, 1, 1] + 5
    features[:, 4] = 3  # constant
    logits = (features - 5) @ np.array([2, 0.1, 0, 0, 0, 1.0])[:width]
    labels = np.stack([rng.random(count) < expit(logits * (k + 1)) for k in range(findings)], 1)
    return Labeled(torch.from_numpy(features).float(), labels.astype(np.float64))


def test_weights_and_penalty_are_those_of_scikit_learn() -> None:
    train, valid, test = split(200, 0), split(100, 1), split(50, 2)
    details: dict = {}
    probe = fit_probe(train, valid, ("a", "b"), PENALTIES, details)
    for k, finding in enumerate(("a", "b")):
        fits = {
            penalty: make_pipeline(
                StandardScaler(),
                LogisticRegression(C=1 / (penalty * 200), tol=1e-8, max_iter=10000),
            ).fit(train.features.double().numpy(), train.labels[:, k])
            for penalty in PENALTIES
        }
        losses = {
            penalty: log_loss(
                valid.labels[:, k], fit.predict_proba(valid.features.double().numpy())
            )
            for penalty, fit in fits.items()
        }
        best = min(losses, key=lambda penalty: losses[penalty])
        assert details["fit"]["penalty"][finding] == best
        expected = fits[best].decision_function(test.features.double().numpy())
        assert probe(test.features)[:, k] == pytest.approx(expected, abs=1e-3)


def test_a_planted_signal_is_found_and_shuffled_labels_give_chance() -> None:
    train, valid, test = split(400, 0), split(200, 1), split(2000, 2)
    planted = [(part.features[:, :1] > 5).double().numpy() for part in (train, valid, test)]
    probe = fit_probe(
        Labeled(train.features, planted[0]),
        Labeled(valid.features, planted[1]),
        ("a",),
        PENALTIES,
        {},
    )
    assert roc_auc_score(planted[2][:, 0], probe(test.features)[:, 0]) > 0.999
    rng = np.random.default_rng(3)
    shuffled = fit_probe(
        Labeled(train.features, rng.permutation(planted[0])), Labeled(valid.features, planted[1]),
        ("a",), PENALTIES, {},
    )  # fmt: skip
    assert roc_auc_score(rng.permutation(planted[2][:, 0]), shuffled(test.features)[:, 0]) == (
        pytest.approx(0.5, abs=0.05)
    )


def test_unlabeled_images_do_not_train_or_choose() -> None:
    train, valid = split(100, 0), split(60, 1)
    some, more = train.labels.copy(), train.labels.copy()
    some[::3] = np.nan
    more[::3] = -1
    probes = [
        fit_probe(Labeled(train.features, labels), valid, ("a", "b"), PENALTIES, {}).weights
        for labels in (some, more)
    ]
    np.testing.assert_array_equal(*probes)


def test_a_finding_with_one_class_is_named_and_without_any_other_it_is_an_error() -> None:
    train, valid = split(60, 0), split(60, 1)
    train.labels[:, 0] = 0
    details: dict = {}
    probe = fit_probe(train, valid, ("rare", "b"), PENALTIES, details)
    assert probe.findings == ("b",)
    assert details["fit"]["not_fitted"] == {"rare": "has one class only in the training split"}
    valid.labels[:, 1] = np.nan
    with pytest.raises(BadData, match="b has one class only in the validation split"):
        fit_probe(train, valid, ("rare", "b"), PENALTIES, {})


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    train, valid, test = split(80, 0), split(40, 1), split(33, 2)
    probe = fit_probe(train, valid, ("a", "b"), PENALTIES, {})
    whole = probe(test.features)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(probe(test.features[order]), whole[order.numpy()])
    np.testing.assert_array_equal(probe(test.features[5:6]), whole[5:6])
