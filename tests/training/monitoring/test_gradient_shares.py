"""The share of each loss in the gradient, and that measuring it changes nothing."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from support.methods import networks
from support.training.monitored import MODEL
from torch import Tensor, nn

from g2dbench.method import Batch, Method
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.training.monitoring.gradient_shares import gradient_shares, state_restored

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


def build(**changes: Any) -> Method:
    tokenizer = train_wordpiece(networks.REPORTS, 60)
    return networks.build("g2d", tokenizer, {**MODEL, **changes})


def batch(method: Method, step: int = 9) -> Batch:
    return networks.batch(method, step, side=32)


def test_gradient_shares_are_those_of_two_backward_passes() -> None:
    method = build(text={**MODEL["text"], "dropout": 0.0}).train()
    found = gradient_shares(method, batch(method), nullcontext)
    norms = {}
    for name in ("vla", "pa"):
        method.zero_grad()
        method.losses(batch(method))[name].backward()
        encoder = [p.grad for n, p in method.named_parameters() if n.startswith("unet.encoder.")]
        norms[name] = float(torch.cat([g.flatten() for g in encoder if g is not None]).norm())
    whole = sum(norms.values())
    assert found == {
        f"gradient_share_{name}": pytest.approx(norm / whole, rel=1e-4)
        for name, norm in norms.items()
    }
    scaled = gradient_shares(method, batch(method), nullcontext, scale=1024.0)
    assert scaled == {name: pytest.approx(value, rel=1e-4) for name, value in found.items()}
    assert gradient_shares(method, batch(method, step=0), nullcontext) == {}


def test_gradient_shares_do_not_change_the_training() -> None:
    method = build().train()
    method.text.encoder.eval()
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    modes = [part.training for part in method.modules()]
    state = torch.random.get_rng_state()
    assert gradient_shares(method, batch(method), nullcontext)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert [part.training for part in method.modules()] == modes
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(weight.grad is None for weight in method.parameters())


class Restless(nn.Module):
    """Changes a weight in place and replaces a buffer, as momentum queues and prototypes do."""

    queue: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.rand(3, 4))
        self.register_buffer("queue", torch.zeros(2))

    def forward(self) -> None:
        with torch.no_grad():
            self.prototypes.div_(self.prototypes.norm(dim=1, keepdim=True))
        self.queue = self.queue + 1
        torch.rand(5)


def test_what_a_forward_pass_changes_is_restored_even_after_an_error() -> None:
    module = Restless().eval()
    weight, queue = module.prototypes.detach().clone(), module.queue

    def fail() -> None:
        with state_restored(module, CPU):
            module.train()()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(module.prototypes, weight)
    assert module.queue is queue
    assert queue.tolist() == [0, 0]
    assert not module.training
