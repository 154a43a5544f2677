"""The contract of every method with the training loop, and of its model with the tasks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method
from g2dbench.model import capabilities
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

TEXT = {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12}
TINY: dict[str, Any] = {"width": 8, "image": {"encoder": "resnet18", "size": 64}, "text": TEXT}
GRIDS = {"g2d": 2, "convirt": 2, "gloria": 4, "mgca": 4, "mflag": 2}
"""Side of the map in which a method locates texts, for images of 64 px."""
METHODS = (*GRIDS, "mae")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(["the heart is large", "no effusion", "lungs are clear"], 60)


def build(name: str, tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> Method:
    module = Registry().find(MethodCard, name).load()
    method: Method = module.build({**TINY, **changes}, tokenizer, seed)
    return method


def batch(method: Method, size: int = 3, step: int = 0) -> Batch:
    reports = ["the heart is large", "no effusion", "lungs are clear", "clear"][:size]
    images = torch.rand(size, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    return Batch(images, *method.tokenize(reports), tuple("abcd"[:size]), step)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_its_model_has_the_capabilities_of_the_card(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        card = Registry().find(MethodCard, name).card
        method = build(name, tokenizer)
        model = method.as_model()
        assert capabilities(model) == card.capabilities
        assert model.preprocess == method.preprocess
        assert model.preprocess.size == 64

    def test_larger_inputs_are_accepted(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        model = build(name, tokenizer).as_model().eval()
        assert not model.fixed_size
        with torch.no_grad():
            assert model.features(torch.rand(1, 3, 96, 96))[-1].shape[-1] == 3

    def test_only_the_seed_decides_the_weights_and_the_global_generator_is_not_used(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        torch.manual_seed(1)
        first = build(name, tokenizer, seed=4).state_dict()
        after = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(after, torch.rand(1))
        second, other = (build(name, tokenizer, seed=s).state_dict() for s in (4, 5))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)

    def test_every_trainable_weight_gets_a_gradient(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        method = build(name, tokenizer).train()
        torch.stack(list(method.losses(batch(method)).values())).sum().backward()
        idle = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle

    def test_channels_last_gives_the_same_losses(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        method = build(name, tokenizer, text={**TEXT, "dropout": 0.0}).train()
        given = batch(method)
        torch.manual_seed(2)
        plain = method.losses(given)
        method.to(memory_format=torch.channels_last)
        last = given.images.to(memory_format=torch.channels_last)
        torch.manual_seed(2)
        moved = method.losses(Batch(last, given.tokens, given.attention, given.ids, given.step))
        torch.testing.assert_close(plain, moved, rtol=2e-3, atol=1e-4)

    @pytest.mark.parametrize("value", [0.0, 0.5])
    def test_images_without_content_give_finite_losses(
        self, name: str, value: float, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        method = build(name, tokenizer).train()
        given = batch(method)
        images = torch.full_like(given.images, value)
        losses = method.losses(Batch(images, given.tokens, given.attention, given.ids, 0))
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)

    def test_more_padding_changes_no_loss(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        method = build(name, tokenizer, text={**TEXT, "dropout": 0.0}).train()
        given = batch(method)
        longer = [F.pad(x, (0, 12 - x.shape[1])) for x in (given.tokens, given.attention)]
        torch.manual_seed(2)
        plain = method.losses(given)
        torch.manual_seed(2)
        padded = method.losses(Batch(given.images, longer[0], longer[1], given.ids, 0))
        assert longer[0].shape[1] > given.tokens.shape[1]
        torch.testing.assert_close(plain, padded, rtol=1e-4, atol=1e-5)

    def test_monitors_are_finite_and_change_nothing(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        method = build(name, tokenizer).eval()
        before, drawn = (
            {k: v.clone() for k, v in method.state_dict().items()},
            torch.get_rng_state(),
        )
        found = method.monitors(batch(method))
        assert method.monitors(batch(method)) == found
        assert np.isfinite(list(found.values())).all()
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())

    def test_its_architecture_is_a_fixed_point(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        first = build(name, tokenizer)
        module = Registry().find(MethodCard, name).load()
        second = module.build(first.architecture, tokenizer, 2)
        assert second.architecture == first.architecture
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize("name", GRIDS)
class TestEveryMethodWithASpace:
    def test_shapes_and_unit_length(self, name: str, tokenizer: PreTrainedTokenizerFast) -> None:
        model = build(name, tokenizer).as_model().eval()
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            maps = model.features(images)
            image, text = model.embed_images(images), model.embed_texts(["effusion", "", "heart"])
            found, pooled = model.locate(images, ["effusion", "heart"]), model.pooled(images)
        assert model.strides == (2, 4, 8, 16, 32)
        grid = GRIDS[name]
        for feature, channels, stride in zip(maps, model.channels, model.strides, strict=True):
            assert feature.shape == (2, channels, 64 // stride, 64 // stride)
        assert (image.shape, text.shape, found.shape) == ((2, 8), (3, 8), (2, 2, grid, grid))
        torch.testing.assert_close(pooled, maps[-1].mean((2, 3)))
        torch.testing.assert_close(torch.cat([image, text]).norm(dim=-1), torch.ones(5))
        assert found.abs().max() <= 1 + 1e-6

    def test_no_output_depends_on_other_images(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        model = build(name, tokenizer).as_model().eval()
        images = torch.cat([torch.rand(2, 3, 64, 64), torch.zeros(1, 3, 64, 64)])
        with torch.no_grad():
            for ability in (model.embed_images, lambda x: model.locate(x, ["heart"])):
                alone = torch.cat([ability(image[None]) for image in images])
                torch.testing.assert_close(ability(images), alone, rtol=1e-4, atol=1e-5)

    def test_texts_in_batches_equal_single_texts(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        model = build(name, tokenizer).as_model().eval()
        texts = ["heart", "the heart is large", "no effusion"] * 30
        with torch.no_grad():
            alone = torch.cat([model.embed_texts([text]) for text in texts[:3]] * 30)
            torch.testing.assert_close(model.embed_texts(texts), alone, rtol=1e-4, atol=1e-5)

    def test_a_saved_method_gives_the_same_outputs(
        self, name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        first = build(name, tokenizer, seed=1)
        sum(first.losses(batch(first)).values())  # moves the batch norms' statistics
        torch.save(first.state_dict(), tmp_path / "state.pt")
        module = Registry().find(MethodCard, name).load()
        second = module.build(first.architecture, tokenizer, 2)
        second.load_state_dict(torch.load(tmp_path / "state.pt"))
        one, two = (method.as_model().eval() for method in (first, second))
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(one.embed_images(images), two.embed_images(images))
            assert torch.equal(one.locate(images, ["heart"]), two.locate(images, ["heart"]))

    def test_one_pair_is_refused(self, name: str, tokenizer: PreTrainedTokenizerFast) -> None:
        method = build(name, tokenizer)
        with pytest.raises(Misuse, match="at least 2"):
            method.losses(batch(method, 1))

    def test_mixed_precision_keeps_losses_in_fp32(
        self, name: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        method = build(name, tokenizer).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = method.losses(batch(method))
            embedded = method.as_model().embed_images(torch.rand(2, 3, 64, 64))
        assert {loss.dtype for loss in losses.values()} | {embedded.dtype} == {torch.float32}
        assert all(loss.isfinite() for loss in losses.values())
