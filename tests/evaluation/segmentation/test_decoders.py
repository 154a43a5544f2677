"""SETR's decoder as MGCA's, and the linear probe as one linear layer."""

import pytest
import torch
from torch.nn import functional as F

from g2dbench.evaluation.segmentation.decoders import DenseProbe, SetrHead


def test_setr_has_mgcas_layers_for_a_vit() -> None:
    head = SetrHead([768], [16], 1, 224).eval()
    assert head.widths == (512, 256, 128, 64)
    # final_dense, four convolutions with batch norm, final_out of MGCA's SETRModel
    pairs = [(768, 512), (512, 256), (256, 128), (128, 64)]
    expected = 768 * 769 + sum(9 * a * b + 3 * b for a, b in pairs) + 9 * 64 + 1
    assert sum(weight.numel() for weight in head.parameters()) == expected
    assert head([torch.zeros(1, 768, 14, 14)]).shape == (1, 1, 224, 224)


@pytest.mark.parametrize(("stride", "widths"), [(4, (128, 64)), (32, (512, 256, 128, 64, 64))])
def test_setr_fits_maps_of_other_strides(stride: int, widths: tuple[int, ...]) -> None:
    head = SetrHead([3, 8], [2, stride], 2, 64).eval()
    assert head.widths == widths
    maps = [torch.zeros(2, 3, 32, 32), torch.zeros(2, 8, 64 // stride, 64 // stride)]
    assert head(maps).shape == (2, 2, 64, 64)


def test_the_probe_is_one_linear_layer_on_up_sampled_features() -> None:
    probe = DenseProbe([3, 5], [2, 8], 2, 32).eval()
    for layer in probe.layers:
        torch.nn.init.normal_(layer.weight)
    maps = [torch.randn(2, 3, 16, 16), torch.randn(2, 5, 4, 4)]
    wide = torch.cat([F.interpolate(m, size=(32, 32), mode="bilinear") for m in maps], 1)
    weight = torch.cat([layer.weight[:, :, 0, 0] for layer in probe.layers], 1)
    # In eval mode a new batch norm divides by sqrt(1 + eps).
    expected = torch.einsum("kc,bchw->bkhw", weight, wide) / (1 + 1e-5) ** 0.5
    assert torch.allclose(probe(maps), expected, atol=1e-5)
    assert sum(p.numel() for p in probe.parameters()) == 2 * (3 + 5) + 2
