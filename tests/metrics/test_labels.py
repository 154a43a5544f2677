"""Labels, scores and weights: what a metric accepts, and how it reports the rest."""

import numpy as np
import pytest

from g2dbench.errors import BadResult
from g2dbench.metrics.labels import check_weights, require_scores

NAN = float("nan")


def test_scores_that_are_no_numbers_are_reported_with_the_image_and_the_finding():
    truth = np.array([[1, 0], [0, 1], [0, -1]])
    score = np.array([[0.1, 0.2], [0.3, NAN], [0.4, NAN]])
    with pytest.raises(BadResult, match=r"'Edema' cannot be scored.*image 'b' \(nan\) is not"):
        require_scores(["a", "b", "c"], ["Normal", "Edema"], truth, score)
    with pytest.raises(BadResult, match="and 2 more"):
        require_scores(list("abcde"), ["x"], np.ones((5, 1)), np.full((5, 1), np.inf))


def test_images_without_a_label_need_no_score():
    require_scores(["a", "b"], ["x"], [[-1], [NAN]], [[NAN], [NAN]])
    require_scores([], ["x"], np.zeros((0, 1)), np.zeros((0, 1)))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        require_scores(["a"], ["x"], [[1, 0]], [[0.1, 0.2]])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones((2, 3), int), "expected"),
        (np.ones(2, int), "expected"),
        (np.ones((1, 2)), "integer"),
        (np.array([[1, -1]]), "negative"),
    ],
)
def test_weights_are_multiplicities(weights, words):
    with pytest.raises(ValueError, match=words):
        check_weights(weights, 2)
