"""The network of encoder and head: modes, gradients, seeds, and what a saved head holds."""

import numpy as np
import pytest
import torch
from support import toy
from support.spots import Trainable, part
from torch import Tensor, nn

from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation.heads.network import Levels, Network, restore, seeded_dropout
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.task import Run

single_thread = toy.single_thread


class Sums(nn.Module):
    """Adds the maps of a pyramid with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        assert all(level.dtype == torch.float32 for level in pyramid)
        return self.weight * torch.stack([level.mean((1, 2, 3)) for level in pyramid]).sum(0)


def run_on(**settings: object) -> Run:
    data = {"train": part("t", 4), "valid": part("v", 4), "test": part("s", 4)}
    return toy.run_with(protocol=None, **data, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("use", "augment", "in_loop", "encoder_trains", "gradients"),
    [
        ("frozen", "none", False, False, False),
        ("frozen", "mgca", True, False, False),
        ("batch-statistics", "none", True, True, False),
        ("updated", "none", True, True, True),
    ],
)
def test_the_encoder_is_used_as_asked(
    use: str, augment: str, in_loop: bool, encoder_trains: bool, gradients: bool
) -> None:
    model, run = Trainable(2, 4), run_on()
    network = Network(model, Sums(), run, use, augment)  # type: ignore[arg-type]
    assert network.in_loop == in_loop
    network.module.train()
    outputs, warps = network.training(run.train, "t")(torch.arange(4))
    outputs.sum().backward()
    assert (augment == "mgca") or warps == [None] * 4
    assert network.head.weight.grad is not None
    encoders = [m for m in network.module.modules() if isinstance(m, Trainable)]
    assert bool(encoders) == in_loop
    for encoder in encoders:
        assert encoder is not model
        assert encoder.training == encoder_trains
        assert (encoder.stem[0].weight.grad is not None) == gradients
    assert model.stem[0].weight.grad is None


def test_without_changes_the_loop_gives_what_the_cache_gives() -> None:
    run, model = run_on(), Trainable(2, 4)
    rows = torch.tensor([3, 0, 2])
    cached = Network(model, Sums(), run).validation(run.train, "t")(rows).raw
    network = Network(model, Sums(), run, "updated")
    network.module.eval()
    in_loop = network.validation(run.train, "t")(rows).raw
    np.testing.assert_allclose(in_loop.detach(), cached.detach(), rtol=1e-5)


def test_a_saved_head_holds_what_differs_from_the_model() -> None:
    run, model = run_on(), Trainable(2)
    network = Network(model, Sums(), run, "updated")
    assert set(network.saved({}).weights) == {"head.weight"}
    encoder = next(m for m in network.module.modules() if isinstance(m, Trainable))
    with torch.no_grad():
        encoder.stem[0].bias.add_(1)
    saved = network.saved({"a": 1})
    assert set(saved.weights) == {"head.weight", "encoder.stem.0.bias"}
    assert saved.facts == {"a": 1}
    head = Sums()
    fitted = restore(saved, head, model)
    assert fitted is not model
    assert torch.equal(fitted.stem[0].bias, model.stem[0].bias + 1)
    assert restore(SavedHead({"head.weight": torch.zeros(())}, {}), head, model) is model
    assert head.weight == 0


@pytest.mark.parametrize("name", ["weight", "head.other", "encoder.other"])
def test_weights_of_another_head_are_refused(name: str) -> None:
    weights = {"head.weight": torch.zeros(()), name: torch.zeros(3)}
    with pytest.raises(BadCheckpoint):
        restore(SavedHead(weights, {}), Sums(), Trainable(2))


def test_levels_are_named_in_the_cache() -> None:
    model = Trainable(2, 4, 8)
    assert (Levels().name, Levels((1, 2)).name) == ("features", "features [1, 2]")
    maps = Levels((0, 2)).of(model.eval(), torch.zeros(1, 1, 32, 32))
    assert [level.shape[-1] for level in maps] == [16, 4]


def test_dropout_depends_on_the_runs_seed_only() -> None:
    def sampled(seed: int) -> Tensor:
        torch.rand(3)
        with seeded_dropout(run_on(seed=seed)):
            return torch.rand(4)

    before = torch.get_rng_state()
    first = sampled(0)
    assert torch.equal(sampled(0), first)
    assert not torch.equal(sampled(1), first)
    torch.set_rng_state(before)
    torch.rand(3)
    expected = torch.rand(1)
    torch.set_rng_state(before)
    sampled(0)
    assert torch.equal(torch.rand(1), expected)
