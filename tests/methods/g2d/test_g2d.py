"""G2D as a whole: every setting trains, gradients reach the right weights, bad settings fail."""

from typing import Any

import pytest
import torch
from support.methods.g2d import CODE, TINY, build
from support.methods.networks import batch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.errors import Misuse
from g2dbench.method import Batch

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


def test_the_shares_of_a_located_prompt_sum_to_the_cosine_of_image_and_prompt(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    texts = ["heart", "no heart"]
    settings = {"stride": 16, "located": "share"}
    model = build(tokenizer, attention=settings, image={"size": 64}).as_model().eval()
    with torch.no_grad():
        maps = model.locate(images, texts)
        cosines = model.embed_images(images) @ model.embed_texts(texts).T
    assert maps.shape == (2, 2, 4, 4)
    torch.testing.assert_close(maps.sum((2, 3)), cosines)


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
        ({"mask": {"source": "gradient", "heads": "separate"}}, "needs source = query"),
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
