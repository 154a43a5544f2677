"""G2D: attention pooling, pixel loss, decoder, flow of gradients, and monitors."""

from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method
from g2dbench.methods.g2d import monitors
from g2dbench.methods.g2d.attention import AttentionPool
from g2dbench.methods.g2d.losses import pixel_alignment, soft_dice
from g2dbench.methods.g2d.settings import AttentionSettings, PixelSettings
from g2dbench.methods.shared.attention_entropy import relative_entropy
from g2dbench.methods.shared.unet import run_decoder
from g2dbench.pretrained.tokenizer import train_wordpiece
from g2dbench.registry import Registry

TINY: dict[str, Any] = {
    "width": 8,
    "image": {"encoder": "resnet18", "size": 64},
    "text": {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12},
}
CODE = {"heads": 2, "query": "mean", "keys": "pixels+query", "positions": "learned"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(["the heart is large", "no effusion", "lungs are clear"], 60)


def build(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> Method:
    method: Method = (
        Registry().find(MethodCard, "g2d").load().build({**TINY, **changes}, tokenizer, 0)
    )
    return method


def batch(method: Method, step: int = 0) -> Batch:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    reports = ["the heart is large", "no effusion", "lungs are clear"]
    return Batch(images, *method.tokenize(reports), ("a", "b", "c"), step)


def wave(*shape: int, phase: float = 0.0) -> Tensor:
    at = torch.arange(int(np.prod(shape)), dtype=torch.float64) * 1.7 + phase
    return (torch.sin(at) * 0.6).float().view(shape)


def pool(**settings: Any) -> AttentionPool:
    made = AttentionPool(AttentionSettings.model_validate(settings), 8, 4)
    for index, (_, weight) in enumerate(sorted(made.named_parameters())):
        weight.data.copy_(wave(*weight.shape, phase=float(index)))
    return made


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


def test_pixel_loss_by_hand() -> None:
    logits = torch.tensor([[[[0.0, np.log(3.0)], [-np.log(3.0), 0.0]]]])
    mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    dice = 1 - (2 * 1.25 + 1e-5) / (2 + 2 + 1e-5)
    bce = -(np.log(0.5) + np.log(0.75) + np.log(0.75) + np.log(0.5)) / 4
    found = float(pixel_alignment(logits, mask, PixelSettings()))
    assert found == pytest.approx((dice + bce) / 2, rel=1e-6)
    only = PixelSettings(dice=0, bce=1)
    assert float(pixel_alignment(logits, mask, only)) == pytest.approx(bce, rel=1e-6)


def test_the_released_pixel_loss_is_available_as_a_setting() -> None:
    """The value is that of PRETRAIN/utils/loss.py bceDiceLoss for these waves."""
    logits, mask = wave(2, 1, 4, 4, phase=0.5) * 3, (wave(2, 1, 4, 4, phase=1.0) > 0).float()
    code = PixelSettings(values="logits", dice=1, bce=0.2)
    assert float(pixel_alignment(logits, mask, code)) == pytest.approx(
        -0.6507164239883423, rel=1e-5
    )


def test_soft_dice_is_smps_whose_smooth_is_half_of_ours() -> None:
    draw = torch.Generator().manual_seed(0)
    values, mask = torch.rand(3, 1, 8, 8, generator=draw), torch.rand(3, 1, 8, 8, generator=draw)
    each = [
        smp.losses.DiceLoss("binary", from_logits=False, smooth=0.5)(v, m)
        for v, m in zip(values[:, None], mask[:, None].round(), strict=True)
    ]
    assert float(soft_dice(values, mask.round(), 1.0)) == pytest.approx(float(sum(each)) / 3)
    assert float(soft_dice(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), 1e-5)) == 0


SHALLOW: dict[str, Any] = {
    "encoder": "tu-resnet18",
    "size": 64,
    "depth": 3,
    "options": {"channels": [8, 16, 24, 32], "zero_init_last": False},
}
SHAPES: list[dict[str, Any]] = [
    {"attention": {"heads": 4, "stride": 16}},
    {"attention": {**CODE, "dense": "projected"}},
    {"attention": {"logits": "cosine", "scale": 10.0, "head_dim": 16}},
    {"mask": {"heads": "separate"}, "attention": {"heads": 2}},
    {"mask": {"threshold": "mixture", "pairing": "shuffled", "body": "otsu"}},
    {"projector": {"norm": "layer", "hidden": 12}, "text": {**TINY["text"], "project": "tokens"}},
    {"decoder": {"channels": [12, 8, 8, 4, 2]}},
    {"image": {"encoder": "mit_b0", "size": 64}},
    {"image": {"encoder": "resnet34", "size": 96}, "width": 32},
    {"image": SHALLOW, "attention": {"stride": 8}, "decoder": {"channels": [8, 8, 4]}},
]


@pytest.mark.parametrize("changes", SHAPES, ids=lambda c: "-".join(c))
def test_every_setting_trains_and_evaluates(
    changes: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    method = build(tokenizer, **changes).train()
    side, width = method.preprocess.size, changes.get("width", 8)
    grid = side // changes.get("attention", {}).get("stride", 32)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    losses = method.losses(Batch(images, *method.tokenize(["no", "heart"]), ("a", "b"), 0))
    torch.stack(list(losses.values())).sum().backward()
    assert set(losses) == {"vla", "pa"}
    assert all(loss.isfinite() for loss in losses.values())
    model = method.as_model().eval()
    with torch.no_grad():
        maps = model.features(images)
        assert [m.shape[1] for m in maps] == list(model.channels)
        assert [side // m.shape[-1] for m in maps] == list(model.strides)
        assert model.pretrained_decoder()(maps).shape == (2, 1, side, side)
        assert model.embed_images(images).shape == (2, width)
        assert model.locate(images, ["heart"]).shape == (2, 1, grid, grid)


def test_pixel_alignment_reaches_the_encoder_through_the_decoder_and_never_the_mask(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    method = build(tokenizer).train()
    method.losses(batch(method))["pa"].backward()
    reached = {n for n, p in method.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in reached} == {"unet"}
    gradients = dict(method.named_parameters())
    assert gradients["unet.encoder.conv1.weight"].grad.abs().sum() > 0
    assert gradients["unet.decoder.blocks.0.conv1.0.weight"].grad.abs().sum() > 0


def test_alignment_gives_the_decoder_no_gradient(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer).train()
    method.losses(batch(method))["vla"].backward()
    reached = {n for n, p in method.named_parameters() if p.grad is not None}
    assert not any("decoder" in name or "segmentation_head" in name for name in reached)
    assert {"pool.query.weight", "projector.first.weight", "unet.encoder.conv1.weight"} <= reached


def test_pixel_alignment_starts_at_its_step(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer, pixel={"start": 200}).train()
    assert set(method.losses(batch(method, 199))) == {"vla"}
    assert set(method.losses(batch(method, 200))) == {"vla", "pa"}


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


def test_prompts_are_located_in_the_space_of_the_embedding(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = build(tokenizer, attention={"heads": 1}).as_model().eval()
    alike = [torch.rand(2, c, 1, 1).expand(2, c, 2, 2) for c in model.channels]
    with torch.no_grad():
        pixel = F.normalize(model.towers.dense(alike), dim=1)[:, :, 0, 0]
        whole = F.normalize(model.towers.embed_pyramid(alike), dim=-1)
    torch.testing.assert_close(pixel, whole, rtol=1e-4, atol=1e-5)


def test_impossible_settings_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"mask": {"percentile": 101}}, r"model.mask.percentile = 101"),
        ({"mask": {"sigma_space": 99.0}}, "lower mask.sigma_space"),
        ({"attention": {"heads": 9}}, "exceeds width 8"),
        ({"attention": {"stride": 4}}, r"model.attention.stride = 4"),
        ({"mask": {"source": "report", "heads": "separate"}}, "needs source = query"),
        ({"mask": {"heads": "separate"}, "pixel": {"target": "image"}}, "needs target = mask"),
        (
            {"decoder": {"channels": [16, 8]}},
            "decoder.channels has 2 values, but image.depth = 5 needs 5",
        ),
        ({"image": {"depth": 3}, "attention": {"stride": 16}}, "last map .* has stride 8"),
        ({"image": {"encoder": "resnet18", "options": {"channels": [8]}}}, "does not: use"),
        ({"image": {"encoder": "tu-resnet18", "options": {"chanels": [8]}}}, "does not accept all"),
        ({"image": {"options": {"checkpoint_path": "x.pth"}}}, "model.image.options"),
        ({"pixels": {}}, "did you mean 'pixel'"),
    ]
    for changes, words in cases:
        with pytest.raises(Misuse, match=words):
            build(tokenizer, **changes)


def test_monitors_give_one_value_each_and_change_nothing(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    method = build(tokenizer).eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    found = method.monitors(batch(method))
    assert set(found) == {
        "attention_entropy", "mask_share", "mask_empty", "mask_full", "mask_parts",
        "mask_overlap", "mask_overlap_chance", "decoder_dice",
    }  # fmt: skip
    assert all(0 <= value <= 1 for value in found.values())
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())


def test_monitors_by_hand() -> None:
    uniform, sharp = torch.full((1, 2, 2, 2), 0.25), torch.zeros(1, 1, 2, 2)
    sharp[..., 0, 0] = 1
    half = torch.tensor([[[[0.1, 0.1], [0.0, 0.0]]]])
    assert relative_entropy(uniform) == pytest.approx(1)
    assert relative_entropy(sharp) == 0
    assert relative_entropy(half) == pytest.approx(0.5)
    a = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]]).view(3, 1, 2, 2)
    assert monitors.share(a) == 0.5
    assert monitors.overlap(a) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert monitors.overlap(torch.zeros(2, 1, 2, 2)) == 1
    assert monitors.decoder_dice(a[:2], a[1:]) == pytest.approx(0.5)
    assert monitors.decoder_dice(a * 0, a * 0) == 1
    empty, full = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    some = torch.cat([empty, full, a[:2]])
    assert (monitors.emptiness(some), monitors.fullness(some)) == (0.25, 0.25)
    corners = torch.tensor([[1.0, 0], [0, 1]]).view(1, 1, 2, 2)
    assert monitors.parts(torch.cat([corners, full])) == 1.5
    assert monitors.parts(empty) == 0
    found = monitors.mask_monitors(a[:1], a[:1])
    assert found["mask_overlap_chance"] == pytest.approx(0.5 / 1.5)


def test_connected_parts_are_those_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    masks = (torch.rand(6, 2, 40, 40, generator=torch.Generator().manual_seed(2)) > 0.6).float()
    planes = masks.flatten(0, 1).numpy().astype(np.uint8)
    counts = [cv2.connectedComponents(plane, connectivity=4)[0] - 1 for plane in planes]
    assert monitors.parts(masks) == pytest.approx(np.mean(counts))


def test_chance_overlap_is_that_of_independent_masks() -> None:
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(8, 1, 64, 64, generator=draw) > 0.8).float()
    found = monitors.mask_monitors(masks, masks)
    assert found["mask_overlap"] == pytest.approx(found["mask_overlap_chance"], abs=0.01)


def test_panels_are_the_steps_of_the_mask_of_each_image(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    shuffled = {"mask": {"pairing": "shuffled", "sigma_space": 2.0}, "attention": {"stride": 16}}
    method = build(tokenizer, **shuffled).eval()
    images = batch(method).images
    with torch.no_grad():
        found = method.as_model().panels(images, None)
        attention = method.pool(method._projected(method.pyramid(images)))[1]
        mask = method.pseudo_mask(attention, images)
    assert list(found) == ["attention / peak", "body mask", "thresholded", "refined", "decoder"]
    assert torch.equal(found["refined"].roll(1, 0), mask[:, 0])
    assert torch.equal(found["thresholded"] > 0.5, found["thresholded"] == 1)
    assert (found["thresholded"] <= found["body mask"]).all()
    assert torch.equal(found["attention / peak"].amax((1, 2)), torch.ones(3))
    assert all(0 <= map_.min() <= map_.max() <= 1 for map_ in found.values())


def test_panels_of_masks_from_the_report_need_a_report(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build(tokenizer, mask={"source": "report"}, pixel={"target": "none"}).eval()
    model, given = method.as_model(), batch(method)
    reports = ["the heart is large", "no effusion", "lungs are clear"]
    with torch.no_grad():
        assert list(model.panels(given.images, None)) == ["attention / peak"]
        found = model.panels(given.images, reports)
        swapped = model.panels(given.images, reports[::-1])
    assert list(found)[1:] == ["report / peak", "body mask", "thresholded", "refined"]
    assert torch.equal(found["attention / peak"], swapped["attention / peak"])
    assert not torch.equal(found["report / peak"], swapped["report / peak"])
