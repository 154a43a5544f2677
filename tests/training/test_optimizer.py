"""Parameter groups of the optimizer."""

from support.small_training import build

from g2dbench.training.optimizer import parameter_groups


def test_weight_decay_spares_biases_and_norms() -> None:
    toy = build({}, list(range(20)), 0)
    decayed, spared = parameter_groups(toy, 0.1)
    assert {tuple(w.shape) for w in decayed["params"]} == {(8, 3, 8, 8), (20, 8)}
    assert all(w.ndim == 1 for w in spared["params"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
