"""MGCA: token loss against plain loops, Sinkhorn's algorithm, and frozen prototypes."""

import pytest
import torch
from support.methods.networks import batch
from support.methods.other_methods import build, unit
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.methods._mgca_losses import sinkhorn, token_loss
from g2dbench.methods.shared.word_pieces import clipped_weights


def test_mgcas_token_loss_equals_plain_loops_and_ignores_padding() -> None:
    regions, words, lengths = unit(3, 4, 5), unit(3, 6, 5, seed=1), [6, 1, 4]
    exist = torch.arange(6) < torch.tensor(lengths)[:, None]
    weights = clipped_weights(torch.rand(3, 6, generator=torch.Generator().manual_seed(2)) * exist)
    total = 0.0
    for pair, length in enumerate(lengths):
        r, w = regions[pair], words[pair, :length]
        for queries, keys, shares in (
            (w, r, weights[pair, :length]),
            (r, w, torch.full((4,), 0.25)),
        ):
            attended = F.normalize((queries @ keys.T / 0.1).softmax(1) @ keys, dim=1)
            logits, own = queries @ attended.T / 0.1, torch.arange(len(queries))
            both = F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(
                logits.T, own, reduction="none"
            )
            total += float((both * shares).sum()) / 2
    found = token_loss(regions, words, exist, weights, 0.1)
    assert float(found) == pytest.approx(total / 3, rel=1e-5)


def test_sinkhorn_balances_prototypes_and_is_stable_for_a_tiny_epsilon() -> None:
    scores = unit(8, 5) @ unit(4, 5, seed=1).T
    code = sinkhorn(scores, 0.05, 200)
    torch.testing.assert_close(code.sum(1), torch.ones(8))
    torch.testing.assert_close(code.sum(0), torch.full((4,), 2.0), rtol=0, atol=0.02)
    once = sinkhorn(scores, 0.05, 1).sum(0)
    assert (once - 2).abs().max() > 0.02
    assert sinkhorn(scores, 1e-4, 3).isfinite().all()
    torch.testing.assert_close(sinkhorn(torch.ones(2, 4), 0.05, 3), torch.full((2, 4), 0.25))


def test_mgcas_prototypes_are_frozen_until_their_step(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build("mgca", tokenizer, prototypes={"start": 5, "count": 6}).train()
    for step, moves in ((4, False), (5, True)):
        method.zero_grad()
        torch.stack(list(method.losses(batch(method, step)).values())).sum().backward()
        assert (method.prototypes.weight.grad is not None) == moves
