"""M-FLAG: orthogonality by hand, and the frozen language model."""

import math

import pytest
import torch
from support.methods.networks import batch
from support.methods.other_methods import MFLAG, TEXT, build
from transformers import PreTrainedTokenizerFast


def test_orthogonality_by_hand() -> None:
    latent = torch.tensor([[1.0, 2.0], [3.0, 0.0]])  # products / 2: [[5, 1], [1, 2]]
    wanted = ((5 - 1) ** 2 + (2 - 1) ** 2 + 0.5 * (1 + 1)) / 2
    assert float(MFLAG.orthogonality(latent, 0.5)) == pytest.approx(wanted)
    assert float(MFLAG.orthogonality(torch.eye(3) * math.sqrt(3), 1.0)) == pytest.approx(
        0, abs=1e-6
    )
    assert MFLAG.effective_rank(torch.ones(4, 3)) == pytest.approx(1)
    assert MFLAG.effective_rank(torch.eye(4)) == pytest.approx(3)


def test_mflags_language_model_is_frozen(tokenizer: PreTrainedTokenizerFast) -> None:
    text = {**TEXT, "dropout": 0.5}
    method = build("mflag", tokenizer, text=text).train()
    learning = {n.split(".")[0] for n, p in method.named_parameters() if p.requires_grad}
    assert learning == {"text", "encoder", "projector"}
    assert not any(p.requires_grad for p in method.text.encoder.parameters())
    given = batch(method)
    first, second = (method.text.encoder(given.tokens, given.attention) for _ in range(2))
    assert torch.equal(first, second)
    cached = build("mflag", tokenizer, text={**text, "frozen_cache": 1}).train()
    real = given.attention.bool()
    cached_output = cached.text.encoder(given.tokens, given.attention)
    torch.testing.assert_close(cached_output[real], first[real])
