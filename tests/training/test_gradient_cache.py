"""Gradient caching: micro-batches give the losses and the gradient of the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import small_training as fits
from support.small_methods import EVERYWHERE, REPORTS, TINY, batch, build
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from g2dbench.errors import Misuse
from g2dbench.method import Batch, Method
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.recipes.recipe import OptimSettings, Recipe, override
from g2dbench.training.distributed import make_accelerator
from g2dbench.training.gradient_cache import split_batch
from g2dbench.training.optimizer import MethodOptimizer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(REPORTS, 60)


CPU = torch.device("cpu")


def optimizer(method: Method, micro_batch: int, **kind: Any) -> MethodOptimizer:
    optim = OptimSettings(micro_batch=micro_batch, **kind)
    return MethodOptimizer(method, optim, 0, make_accelerator(CPU, "fp32"))


def gradients(method: Method, micro_batch: int, given: Batch) -> tuple[dict[str, float], Any]:
    losses = optimizer(method, micro_batch).backward(given)
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {name: float(loss.detach()) for name, loss in losses.items()}, found


CASES = [
    ("convirt", {}),
    ("g2d", EVERYWHERE),
    ("g2d", {"pixel": {"target": "none"}}),
    ("g2d", {"pixel": {"target": "image"}}),
    ("g2d", {"contrastive": {"image_to_text": 1.0, "text_to_image": 0.0}}),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_micro_batches_have_the_losses_and_the_gradient_of_the_whole_batch(
    name: str, changes: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Five pairs in parts of at most two: the last is smaller, and means are still correct."""
    whole, parts = (build(name, tokenizer, **changes) for _ in range(2))
    losses, wanted = gradients(whole, 0, batch(whole))
    again, found = gradients(parts, 2, batch(parts))
    assert again == pytest.approx(losses, abs=1e-5)
    assert list(again) == list(losses)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_plain_gradient_accumulation_would_give_another_gradient(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Unlike in gradient accumulation, negatives come from the whole batch."""
    whole, plain = (build("convirt", tokenizer) for _ in range(2))
    _, wanted = gradients(whole, 0, batch(whole))
    for part in split_batch(batch(plain), 2):
        if len(part.ids) > 1:
            (sum(plain.losses(part).values()) * len(part.ids) / 5).backward()
    found = plain.projector.second.weight.grad
    assert (found - wanted["projector.second.weight"]).abs().max() > 1e-3


def test_dropout_masks_are_equal_in_both_passes(tokenizer: PreTrainedTokenizerFast) -> None:
    """Otherwise the cached gradient would belong to other representations."""
    text = {**TINY["text"], "dropout": 0.5}
    method = build("convirt", tokenizer, text=text)
    seen: list[Tensor] = []
    method.text.projector.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    optimizer(method, 2).backward(batch(method, 6))
    assert len(seen) == 6
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(seen[0], seen[1])


def test_running_statistics_are_updated_once(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build("convirt", tokenizer).train()
    optimizer(method, 2).backward(batch(method, 6))
    assert int(method.encoder.bn1.num_batches_tracked) == 3


@pytest.mark.parametrize(
    ("size", "most", "parts"),
    [(5, 2, [2, 2, 1]), (8, 8, [8]), (9, 4, [3, 3, 3]), (10, 4, [4, 3, 3]), (3, 1, [1, 1, 1])],
)
def test_parts_are_nearly_equal_and_in_order(size: int, most: int, parts: list[int]) -> None:
    rows = torch.arange(size)
    whole = Batch(rows, rows + 10, rows + 20, tuple(map(str, range(size))), 7)
    found = split_batch(whole, most)
    assert [len(part.images) for part in found] == parts
    assert torch.cat([part.images for part in found]).tolist() == rows.tolist()
    assert torch.cat([part.tokens for part in found]).tolist() == (rows + 10).tolist()
    assert sum((part.ids for part in found), ()) == whole.ids
    assert {part.step for part in found} == {7}


def test_fewer_activations_are_stored(tokenizer: PreTrainedTokenizerFast) -> None:
    """Peak bytes that autograd saves for the backward pass, without the weights."""
    kept = {}
    for micro_batch in (0, 2):
        method = build("convirt", tokenizer)
        made = optimizer(method, micro_batch)
        weights = {weight.untyped_storage().data_ptr() for weight in method.parameters()}
        alive, most = [0], [0]

        def pack(x: Tensor, weights: Any = weights, alive: Any = alive, most: Any = most) -> Any:
            size = 0 if x.untyped_storage().data_ptr() in weights else x.nbytes
            alive[0] += size
            most[0] = max(most[0], alive[0])
            return Held(x, size, alive)

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.value):
            made.backward(batch(method, 8))
        kept[micro_batch] = most[0]
    assert kept[2] < 0.3 * kept[0]


class Held:
    def __init__(self, value: Tensor, size: int, alive: list[int]) -> None:
        self.value, self._size, self._alive = value, size, alive

    def __del__(self) -> None:
        self._alive[0] -= self._size


def test_a_method_without_micro_batches_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        Misuse, match=r"micro_batch = 4: Toy cannot compute its losses from parts of a batch"
    ):
        fits.fit(None, recipe=override(fits.recipe(), ["optim.micro_batch=4"]))
    changes = ["optim.micro_batch=4", "model.mask.pairing=shuffled"]
    table = {**fits.recipe().model_dump(), "method": "g2d", "model": TINY}
    shuffled = override(Recipe.model_validate(table), changes)
    with pytest.raises(Misuse, match="pairing is shuffled"):
        fits.fit(None, recipe=shuffled)
    assert not (tmp_path / "runs").exists()


def test_a_recipe_without_micro_batches_keeps_its_name_and_file() -> None:
    plain = fits.recipe()
    assert "micro_batch" not in plain.model_dump_json()
    assert override(plain, ["optim.micro_batch=0"]) == plain
    changed = override(plain, ["optim.micro_batch=4"])
    assert changed.name != plain.name
    assert changed.optim.micro_batch == 4
    assert Recipe.model_validate_json(changed.model_dump_json()) == changed
