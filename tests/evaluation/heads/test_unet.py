"""Heads: a U-Net for any pyramid, and a pre-trained decoder with new outputs."""

from collections.abc import Iterator, Sequence

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from g2dbench.errors import Unsupported
from g2dbench.evaluation.fit_head import single_cpu_thread
from g2dbench.evaluation.heads.unet import UnetHead, adapt_decoder, linear


@pytest.fixture(autouse=True)
def _single_thread() -> Iterator[None]:
    with single_cpu_thread():
        yield


@pytest.mark.parametrize(
    ("channels", "strides", "size"),
    [
        ((3, 8, 8, 16, 16, 32), (1, 2, 4, 8, 16, 32), 64),
        ((8, 16, 16, 32), (4, 8, 16, 32), 64),
        ((24,), (16,), 64),
        ((24,), (14,), 70),
        ((8, 8, 8), (16, 16, 16), 32),
        ((8, 8), (4, 64), 128),
    ],
)
def test_the_unet_takes_any_pyramid_to_full_resolution(
    channels: tuple[int, ...], strides: tuple[int, ...], size: int
) -> None:
    head = UnetHead(channels, strides, 2, size)
    pyramid = [
        torch.randn(2, c, size // s, size // s) for c, s in zip(channels, strides, strict=True)
    ]
    used = [part.requires_grad_() for part, s in zip(pyramid, strides, strict=True) if s > 1]
    logits = head(pyramid)
    assert logits.shape == (2, 2, size, size)
    logits.square().mean().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in used)


def test_the_unet_over_a_full_pyramid_is_smp_unets_decoder() -> None:
    unet = smp.Unet("resnet18", encoder_weights=None, classes=1).eval()
    head = UnetHead(unet.encoder.out_channels, (1, 2, 4, 8, 16, 32), 1, 64).eval()
    head.decoder.load_state_dict(unet.decoder.state_dict())
    head.head.load_state_dict(unet.segmentation_head.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(head(unet.encoder(x)), unet(x))


class Averaged(nn.Module):
    """A decoder of three masks that returns their mean; its head is listed before its body."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(5, 3, 3, padding=1)
        self.body = nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        masks: Tensor = self.head(self.norm(self.body(pyramid[0])))
        return nn.functional.interpolate(masks.mean(1, keepdim=True), scale_factor=2)


@pytest.mark.parametrize("decoder", [UnetHead((4, 8), (2, 4), 1, 16), Averaged()])
def test_a_pretrained_decoder_keeps_its_weights_and_gets_new_outputs(decoder: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    pyramid = [torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)]
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    two = adapt_decoder(decoder.requires_grad_(False), 2, pyramid, generator)
    logits = two(pyramid)
    assert logits.shape == (1, 2, 16, 16)
    assert not torch.equal(logits[:, 0], logits[:, 1])
    logits.sum().backward()
    trained = {name for name, weight in two.named_parameters() if weight.grad is not None}
    assert any("body" in n or "decoder.blocks" in n for n in trained)
    assert all(torch.equal(before[n], v) for n, v in two.decoder.state_dict().items())
    one = adapt_decoder(decoder, 1, pyramid, generator)
    assert torch.equal(one.eval()(pyramid), decoder.eval()(pyramid))


def test_a_decoder_with_wrong_output_is_refused() -> None:
    class Bare(nn.Module):
        def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
            return pyramid[0]

    generator = torch.Generator()
    with pytest.raises(Unsupported, match=r"Bare cannot be fitted to 1 findings.*\(1, 4, 8, 8\)"):
        adapt_decoder(Bare(), 1, [torch.zeros(1, 4, 8, 8)], generator)
    with pytest.raises(Unsupported, match=r"to 2 findings.* has 0 convolutions"):
        adapt_decoder(Bare(), 2, [torch.zeros(1, 1, 8, 8)], generator)


def test_initial_weights_never_touch_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = linear(4, 2, torch.Generator().manual_seed(0))
    assert torch.rand(1) == expected
    assert torch.equal(one.weight, linear(4, 2, torch.Generator().manual_seed(0)).weight)
