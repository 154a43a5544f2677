"""Exact logistic regression, the choice of its penalty, neighbors, and class means."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from g2dbench.evaluation.classification.targets import Targets
from g2dbench.evaluation.heads.linear import LinearHead, Standardization
from g2dbench.evaluation.heads.logistic import ClassWeights, Features, solve_classes, solve_findings
from g2dbench.evaluation.heads.neighbors import class_means, neighbor_scores, unit_vectors
from g2dbench.evaluation.heads.penalty_sweep import fit_sweep

PENALTIES = (1e-4, 1e-2, 1.0)


def problem(seed: int, count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardized features and three findings; a tenth of the labels is missing."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, width)) * np.exp(rng.standard_normal(width))
    features = StandardScaler().fit_transform(features)
    signal = features[:, :3] @ rng.standard_normal((3, 3))
    labels = (signal + rng.standard_normal((count, 3)) > 0.5).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    labels[:2] = [[0, 0, 0], [1, 1, 1]]
    return features, labels


def reference(penalty: float, count: int, weights: ClassWeights) -> LogisticRegression:
    return LogisticRegression(
        C=1 / (penalty * count), tol=1e-12, max_iter=20_000,
        class_weight="balanced" if weights == "balanced" else None,
    )  # fmt: skip


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize(("count", "width"), [(200, 12), (30, 60), (5, 9)])
def test_every_finding_and_penalty_is_what_scikit_learn_finds(
    count: int, width: int, weights: ClassWeights
) -> None:
    features, labels = problem(count, count, width)
    given = Features(torch.from_numpy(features))
    found = solve_findings(given, torch.from_numpy(labels), PENALTIES, weights)
    assert found.gradient < 1e-8
    for row, penalty in enumerate(PENALTIES):
        for column in range(3):
            known = ~np.isnan(labels[:, column])
            fitted = reference(penalty, int(known.sum()), weights)
            fitted.fit(features[known], labels[known, column])
            logits = fitted.decision_function(features)
            ours = features @ found.weights[row, column].numpy()
            ours += found.intercepts[row, column].item()
            assert ours == pytest.approx(logits, abs=2e-3 if penalty < 1e-3 else 1e-5)


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize(("count", "width"), [(150, 8), (20, 40)])
def test_softmax_over_classes_is_what_scikit_learn_finds(
    count: int, width: int, weights: ClassWeights
) -> None:
    features, _ = problem(count, count, width)
    classes = np.argmax(features[:, :3] + 0.3 * features[::-1, :3], axis=1)
    classes[3] = -1
    found = solve_classes(
        Features(torch.from_numpy(features)), torch.from_numpy(classes), 3, PENALTIES[1:], weights
    )
    for row, penalty in enumerate(PENALTIES[1:]):
        fitted = reference(penalty, count - 1, weights).fit(
            features[classes >= 0], classes[classes >= 0]
        )
        ours = features @ found.weights[row].numpy().T + found.intercepts[row].numpy()
        probability = np.exp(ours) / np.exp(ours).sum(1, keepdims=True)
        assert probability == pytest.approx(fitted.predict_proba(features), abs=1e-5)


def test_no_gradient_is_left_where_classes_are_separated_or_a_finding_has_one_class() -> None:
    features = torch.tensor([[-1.0], [-0.9], [0.9], [1.0]]).double()
    labels = torch.tensor([[0, 0, math.nan], [0, 0, math.nan], [1, 0, math.nan], [1, 0, math.nan]])
    found = solve_findings(Features(features), labels.double(), (1e-6, 1e-2), "none")
    assert found.gradient <= 1e-9
    assert (found.weights[:, 0, 0] > 1).all()
    assert (found.intercepts[:, 1] < -10).all()
    assert found.weights[:, 2].abs().max() == found.intercepts[:, 2].abs().max() == 0


def test_the_penalty_with_the_smallest_validation_loss_is_chosen_for_each_finding() -> None:
    features, labels = problem(1, 120, 30)
    valid, valid_labels = problem(1, 120, 30)
    valid_labels[:, 2] = np.nan
    head, details = fit_sweep(
        (torch.from_numpy(features), Targets(labels)),
        (torch.from_numpy(valid), Targets(valid_labels)),
        ("a", "b", "c"), PENALTIES, "none",
    )  # fmt: skip
    for name in ("a", "b"):
        losses = details["validation_loss"][name]
        assert details["chosen"][name] == details["penalties"][int(np.argmin(losses))]
    assert details["chosen"]["a"] == min(PENALTIES)  # validated on the training images
    assert details["chosen"]["c"] == max(PENALTIES)  # without a validation label
    assert head.weights.shape == (3, 30)


def test_a_head_for_standardized_features_is_one_for_raw_features() -> None:
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(rng.standard_normal((20, 4)) * 50 + 7)
    raw[:, 3] = 2.5  # constant
    standardize = Standardization.of(raw)
    assert standardize(raw)[:, 3].abs().max() == 0
    assert standardize(raw)[:, :3].std(0, correction=0).tolist() == pytest.approx([1, 1, 1])
    head = LinearHead(torch.from_numpy(rng.standard_normal((2, 4))), torch.tensor([0.5, -1.0]))
    wanted = head.logits(standardize(raw))
    assert head.on_raw_features(standardize).logits(raw) == pytest.approx(wanted)


def test_neighbors_worked_by_hand() -> None:
    train = unit_vectors(torch.tensor([[1.0, 0], [0.8, 0.6], [0, 2.0], [-3, 0]]))
    labels = np.array([[1, 1], [0, np.nan], [0, 0], [1, 0]])
    test = unit_vectors(torch.tensor([[5.0, 0]]))
    found = neighbor_scores(train, labels, test, 2, 0.5)
    near, next_near = np.exp(1 / 0.5), np.exp(0.8 / 0.5)
    assert found[0, 0] == pytest.approx(near / (near + next_near))
    # The second image has no label of the second finding: its next neighbor is the third.
    assert found[0, 1] == pytest.approx(near / (near + 1))
    nothing = np.full((4, 1), np.nan)
    assert neighbor_scores(train, nothing, test, 2, 0.5).tolist() == [[0.5]]


def test_inner_products_of_unit_vectors_do_not_depend_on_the_order_of_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (unit_vectors(torch.randn(50, 700, generator=generator)) for _ in range(2))
    order = torch.randperm(700, generator=generator)
    assert torch.equal(a @ b.T, a[:, order] @ b[:, order].T)
    assert torch.equal((a @ b.T)[3], a[3] @ b.T)


def test_the_nearer_class_mean_is_that_of_scikit_learn() -> None:
    features, labels = problem(2, 80, 5)
    labels = np.nan_to_num(labels)
    weights, intercepts = class_means(torch.from_numpy(features), labels, exclusive=False)
    logits = LinearHead(weights, intercepts).logits(torch.from_numpy(features))
    for column in range(3):
        nearest = NearestCentroid().fit(features, labels[:, column]).predict(features)
        assert np.array_equal(logits[:, column] > 0, nearest == 1)
    classes = np.argmax(features[:, :3], axis=1)
    weights, intercepts = class_means(torch.from_numpy(features), np.eye(4)[classes], True)
    logits = LinearHead(weights, intercepts).logits(torch.from_numpy(features))
    nearest = NearestCentroid().fit(features, classes).predict(features)
    assert np.array_equal(logits.argmax(1), nearest)
    assert (logits[:, 3] == -np.inf).all()
