"""Faster text encoders: the cache of the frozen part, and buckets by length."""

from typing import Any

import pytest
import torch
from torch import Tensor

from g2dbench.errors import Misuse
from g2dbench.methods.shared.encoders import TextEncoder
from g2dbench.methods.shared.frozen_text_cache import FrozenTextCache, HostReports, run_layers
from g2dbench.methods.shared.settings import TowerSettings, read_settings

FROZEN = {"frozen_layers": 2, "frozen_embeddings": True, "frozen_mode": "eval"}
SMALL = {"layers": 3, "hidden": 32, "heads": 4, "max_length": 24, "dropout": 0.0}


def encoder(**changes: Any) -> TextEncoder:
    torch.manual_seed(0)
    settings = read_settings(TowerSettings, {"text": {**SMALL, **changes}}).text
    return TextEncoder(settings, 50).train()


def reports(*lengths: int) -> tuple[Tensor, Tensor]:
    """Reports whose tokens depend only on their length, so that equal lengths are equal."""
    width = max(lengths)
    attention = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    words = (torch.arange(width) * 7 + torch.tensor(lengths)[:, None] * 3) % 45 + 5
    return words * attention, attention


def through(cache: FrozenTextCache, *lengths: int) -> Tensor:
    return cache(HostReports.read(*reports(*lengths)), torch.device("cpu"))


def outcome(made: TextEncoder, tokens: Tensor, attention: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Hidden states of real tokens, and the gradients of a loss over them."""
    hidden = made(tokens, attention)[attention.bool()]
    made.zero_grad()
    (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
    return hidden.detach(), [w.grad for w in made.parameters() if w.grad is not None]


@pytest.mark.parametrize("lower", [None, torch.bfloat16])
def test_cached_outputs_equal_computed_outputs(lower: torch.dtype | None) -> None:
    made = encoder(**FROZEN)
    cached, anew = (FrozenTextCache(made.bert, 2, limit) for limit in (2**20, 0))
    with torch.autocast("cpu", dtype=lower, enabled=lower is not None):
        for lengths in ((5, 24, 9, 5), (9,), (24, 5), (3, 9, 17)):
            assert torch.equal(through(cached, *lengths), through(anew, *lengths))
    assert len(cached._cached) == 5
    assert anew.bytes == 0


def test_each_report_is_computed_once_in_a_batch_and_the_limit_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = FrozenTextCache(encoder(**FROZEN).bert, 2, 10 * 32 * 4)
    asked: list[int] = []
    compute = part.compute
    monkeypatch.setattr(part, "compute", lambda row: asked.append(len(row)) or compute(row))
    through(part, 6, 6, 4)
    through(part, 4, 6, 8, 8)
    through(part, 8)
    assert asked == [6, 4, 8, 8]
    assert part.bytes == 10 * 32 * 4


def test_a_changed_weight_or_precision_invalidates_the_cache() -> None:
    made = encoder(**FROZEN)
    part = FrozenTextCache(made.bert, 2, 2**20)
    before = through(part, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(through(part, 7).float(), before)
    assert torch.equal(through(part, 7), before)
    made.load_state_dict({name: w * 1.5 for name, w in made.state_dict().items()})
    assert torch.equal(through(part, 7), through(FrozenTextCache(made.bert, 2, 0), 7))
    assert not torch.equal(through(part, 7), before)


def test_padding_is_zero_and_each_report_is_that_of_the_frozen_layers_alone() -> None:
    made, (tokens, attention) = encoder(**FROZEN), reports(5, 24, 9)
    found = through(FrozenTextCache(made.bert, 2, 2**20), 5, 24, 9)
    assert not found[~attention.bool()].any()
    for row, length in enumerate((5, 24, 9)):
        hidden = made.bert.embeddings(input_ids=tokens[row : row + 1, :length])
        alone = run_layers(made.bert.encoder.layer[:2], hidden)[0]
        assert torch.equal(found[row, :length], alone)


def test_reports_encoded_together_as_on_a_gpu_are_those_encoded_alone() -> None:
    part = FrozenTextCache(encoder(**FROZEN).bert, 2, 0)
    tokens, attention = reports(5, 24, 9, 5)
    rows = [row[:length] for row, length in zip(tokens, attention.sum(1).tolist(), strict=True)]
    together = part.compute_together(rows, torch.device("cpu"))
    for row, found in zip(rows, together, strict=True):
        torch.testing.assert_close(found, part.compute(row), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "saving", [{"frozen_cache": 1}, {"buckets": 3}, {"buckets": 9, "frozen_cache": 1}], ids=str
)
def test_cache_and_buckets_change_neither_values_nor_gradients(saving: dict[str, int]) -> None:
    plain, saved = encoder(**FROZEN), encoder(**FROZEN, **saving)
    for lengths in ((5, 24, 9, 5, 12), (12, 3), (24, 24, 5)):
        wanted, slopes = outcome(plain, *reports(*lengths))
        found, own = outcome(saved, *reports(*lengths))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        assert len(own) == len(slopes) == 16  # the third layer
        for a, b in zip(own, slopes, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_buckets_give_all_trainable_weights_a_gradient() -> None:
    wanted, slopes = outcome(encoder(), *reports(5, 24, 9, 5))
    found, own = outcome(encoder(buckets=2), *reports(5, 24, 9, 5))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for a, b in zip(own, slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_frozen_part_has_no_dropout_in_eval_mode() -> None:
    tokens = reports(9, 9)
    quiet, loud = (
        encoder(**{**FROZEN, "frozen_mode": mode, "dropout": 0.5}) for mode in ("eval", "train")
    )
    assert not quiet.bert.embeddings.training
    assert quiet.bert.encoder.layer[2].training
    first = run_layers(quiet.bert.encoder.layer[:1], quiet.bert.embeddings(tokens[0]))
    assert torch.equal(first[0], first[1])
    first = run_layers(loud.bert.encoder.layer[:1], loud.bert.embeddings(tokens[0]))
    assert not torch.equal(first[0], first[1])


def test_evaluation_uses_neither_cache_nor_buckets() -> None:
    plain, saved = encoder(**FROZEN).eval(), encoder(**FROZEN, frozen_cache=1, buckets=2).eval()
    assert torch.equal(plain(*reports(5, 24)), saved(*reports(5, 24)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({**FROZEN, "frozen_cache": 1, "frozen_mode": "train"}, "frozen_cache needs"),
        ({**FROZEN, "frozen_cache": 1, "frozen_embeddings": False}, "frozen_cache needs"),
        ({"frozen_cache": 1}, "frozen_cache needs"),
        ({**FROZEN, "frozen_cache": 1, "project": "tokens"}, "reads the padding"),
        ({"buckets": 2, "project": "tokens"}, "reads the padding"),
    ],
)
def test_an_option_that_would_change_the_training_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Misuse, match=words):
        encoder(**changes)
