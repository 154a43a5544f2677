"""The U-Net's decoder: names, widths, values and gradients of smp's, and its transfer."""

import pytest
import segmentation_models_pytorch as smp
import torch
from support.methods.g2d import build
from transformers import PreTrainedTokenizerFast

from g2dbench.methods.shared.unet import run_decoder


def test_the_unet_has_the_names_of_the_released_files(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer).eval()
    released = smp.Unet("resnet18", encoder_weights=None, classes=1).eval()
    released.load_state_dict(method.unet.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(released(images), method.decode(method.pyramid(images)))


def test_the_widths_of_the_decoder_are_a_setting(tokenizer: PreTrainedTokenizerFast) -> None:
    blocks = build(tokenizer, decoder={"channels": [12, 8, 8, 4, 2]}).unet.decoder.blocks
    assert [block.conv2[0].out_channels for block in blocks] == [12, 8, 8, 4, 2]
    released = build(tokenizer).unet.decoder.blocks
    assert [block.conv2[0].out_channels for block in released] == [256, 128, 64, 32, 16]


@pytest.mark.parametrize("encoder", ["resnet18", "mit_b0"])
def test_the_decoder_is_smps_in_values_and_gradients(encoder: str) -> None:
    torch.manual_seed(0)
    theirs = smp.Unet(encoder, encoder_weights=None, decoder_channels=[12, 8, 6, 4, 2]).double()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    pyramid = [m.detach().requires_grad_(m.shape[1] > 0) for m in theirs.encoder(images)]
    wanted = theirs.decoder(pyramid)
    weights = [*theirs.decoder.parameters(), *(m for m in pyramid[1:] if m.shape[1])]
    slopes = torch.autograd.grad(wanted.square().sum(), weights)
    found = run_decoder(theirs.decoder, pyramid[1:])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    for own, slope in zip(torch.autograd.grad(found.square().sum(), weights), slopes, strict=True):
        torch.testing.assert_close(own, slope, rtol=1e-7, atol=1e-8)


def test_the_transferred_decoder_is_a_copy_with_equal_outputs(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = build(tokenizer).as_model().eval()
    decoder, images = model.pretrained_decoder(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = model.features(images)
        assert torch.equal(decoder(maps), model.towers.decode(maps))
        for weight in decoder.parameters():
            weight.zero_()
        assert not torch.equal(decoder(maps), model.towers.decode(maps))
