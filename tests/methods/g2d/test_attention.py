"""The attention pool: values of the references, heads, scale and positions."""

from typing import Any

import numpy as np
import pytest
import torch
from support.methods.g2d import CODE, pool, wave
from torch import nn

from g2dbench.errors import Misuse
from g2dbench.methods.g2d.attention import AttentionPool
from g2dbench.methods.g2d.settings import AttentionSettings
from g2dbench.methods.shared.attention_entropy import relative_entropy


def test_the_attention_pool_is_torchs_multi_head_attention() -> None:
    own = pool(heads=2, head_dim=4)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    parts = (own.query, own.key, own.value)
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    theirs.out_proj.load_state_dict(own.out.state_dict())
    pixels = wave(3, 8, 4, 4, phase=0.3)
    flat = pixels.flatten(2).transpose(1, 2)
    query = own.token.expand(3, 1, 8)
    wanted, weights = theirs(query, flat, flat, average_attn_weights=False)
    pooled, attention = own(pixels)
    torch.testing.assert_close(pooled, wanted[:, 0])
    torch.testing.assert_close(attention, weights[:, :, 0].unflatten(-1, (4, 4)))


def test_the_released_attention_pool_is_available_as_a_setting() -> None:
    """Values of PRETRAIN/models/cnn_ae.py AttentionPool2d(4, 8, 2, 8), with waves as weights."""
    own = AttentionPool(AttentionSettings.model_validate(CODE), 8, 4)
    joint, bias = wave(24, 8, phase=3), wave(24, phase=2)
    for index, part in enumerate((own.query, own.key, own.value)):
        part.weight.data = joint[8 * index : 8 * index + 8]
        part.bias.data = bias[8 * index : 8 * index + 8]
    inner, inner_bias = wave(8, 8, phase=5), wave(8, phase=4)
    outer, outer_bias = wave(8, 8, phase=1), wave(8, phase=0)
    own.out.weight.data, own.out.bias.data = outer @ inner, outer @ inner_bias + outer_bias
    own.positions.data = wave(17, 8, phase=6)
    pooled, attention = own(wave(2, 8, 4, 4, phase=0.3))
    wanted = [-0.0560930, -0.3197301, -1.0333728, -0.5414079, 1.1909266, 1.3804072, -0.3919703]
    torch.testing.assert_close(pooled[0, :7], torch.tensor(wanted), rtol=1e-5, atol=1e-6)
    row = torch.tensor([1.9599419e-4, 7.2460170e-3, 2.8643990e-2, 1.5655199e-2])
    torch.testing.assert_close(attention[1, 0, 1], row, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5])
def test_any_number_of_heads_has_weights_that_sum_to_one(heads: int) -> None:
    pooled, attention = pool(heads=heads)(wave(2, 8, 4, 4))
    assert pooled.shape == (2, 8)
    assert attention.shape == (2, heads, 4, 4)
    torch.testing.assert_close(attention.sum((2, 3)), torch.ones(2, heads))


def test_dense_values_average_to_the_embedding_where_heads_agree() -> None:
    own, pixels = pool(heads=1), wave(2, 8, 4, 4)
    pooled, attention = own(pixels)
    torch.testing.assert_close((own.dense(pixels) * attention).sum((2, 3)), pooled)


@pytest.mark.parametrize(
    "settings",
    [{}, {"heads": 1}, {"query": "mean", "keys": "pixels+query"}, {"output": "double"}, CODE],
    ids=["default", "one head", "attends to itself", "double", "code"],
)
def test_the_shares_of_the_pixels_sum_to_the_embedding(settings: dict[str, Any]) -> None:
    own, pixels = pool(**settings), wave(2, 8, 4, 4)
    shares = own.shares(pixels)
    assert shares.shape == pixels.shape
    torch.testing.assert_close(shares.sum((2, 3)), own(pixels)[0])


def test_a_pixel_without_attention_has_no_share_of_its_own() -> None:
    """With a bias of 0, what a share adds is the attention to the pixel times its value."""
    own, pixels = pool(heads=1, scale=100.0), wave(1, 8, 4, 4)
    nn.init.zeros_(own.out.bias)
    attention = own(pixels)[1][0, 0]
    lengths = own.shares(pixels)[0].norm(dim=0).detach()
    assert lengths.argmax() == attention.argmax()
    assert float(lengths[attention < 1e-6].max()) < 1e-4 * float(lengths.max())


def test_a_larger_scale_sharpens_and_cosines_bound_the_logits() -> None:
    pixels = wave(2, 8, 4, 4) * 50
    with torch.no_grad():
        maps = [pool(scale=scale)(pixels / 50)[1] for scale in (0.1, 1.0, 10.0)]
    entropies = [relative_entropy(map_) for map_ in maps]
    assert entropies == sorted(entropies, reverse=True)
    near, far = (pool(logits="cosine", scale=2.0)(x)[1] for x in (pixels, pixels / 50))
    assert (near.amax((2, 3)) / near.amin((2, 3))).max() <= np.exp(4) + 1e-3
    assert not torch.equal(near, far)


def test_learned_positions_refuse_another_grid() -> None:
    with pytest.raises(Misuse, match="grid of 4 x 4"):
        pool(positions="learned")(wave(1, 8, 3, 3))
