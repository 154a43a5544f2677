"""Held-out retrieval: evaluation mode, chance level, and values that are not finite."""

import numpy as np
import pytest
import torch
from torch import nn

from g2dbench.errors import Stopped
from g2dbench.training.monitoring import held_out


def test_evaluation_restores_the_mode_of_every_submodule() -> None:
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    module[1].eval()
    with held_out.eval_mode(module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
    assert [part.training for part in module] == [True, False]


def test_embeddings_that_are_not_finite_stop_the_training() -> None:
    rows = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])
    groups = np.array([["a"], ["b"]], dtype=object)
    with pytest.raises(Stopped, match=r"not finite.*lower --set optim.lr"):
        held_out.mean_recalls(rows, rows, groups)


def test_chance_is_that_of_random_rankings() -> None:
    groups = np.array([[f"s{i}", f"r{i % 5}"] for i in range(30)], dtype=object)
    rng = np.random.default_rng(0)
    same = groups[:, None, 1] == groups[None, :, 1]
    drawn = [rng.permutation(30)[:4] for _ in range(4000)]
    found = np.mean([same[row][picked].any() for picked in drawn for row in range(30)])
    assert held_out.chance_recall(groups, 4) == pytest.approx(found, abs=0.01)
    assert held_out.chance_recall(groups[:3], 10) == 1.0
