"""A state_dict is found, loaded completely or refused, and identified by its digest."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.models.weights_files import Tiny
from torch import nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation.heads.saved_head import load_head
from g2dbench.pretrained.hub import model_folder
from g2dbench.pretrained.weights import (
    digest,
    find_state,
    load_state,
    matching_cards,
    read_weights,
    select_prefix,
    strip_prefix,
)


def test_the_state_is_found_under_the_usual_names_and_nested(tmp_path: Path) -> None:
    state = {"w": torch.ones(1), "count": 3}
    for wrapped in (state, {"model": state}, {"state_dict": {"model": state}, "epoch": 1}):
        assert list(find_state(wrapped, "f.pt")) == ["w"]
    several = {"model": {"a": torch.ones(1)}, "image_encoder": {"b": torch.ones(1)}}
    assert list(find_state(several, "f.pt", inside=("image_encoder",))) == ["b"]
    with pytest.raises(
        BadCheckpoint, match=r"f\.pt contains no state_dict.*found: epoch, optimizer"
    ):
        find_state({"epoch": 3, "optimizer": {}}, "f.pt")
    with pytest.raises(BadCheckpoint, match="not a mapping"):
        find_state([1], "f.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
def test_safetensors_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file({"w": torch.arange(3.0)}, tmp_path / name)
    assert read_weights(tmp_path / name)["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadCheckpoint, match="a pipe or a device"):
        read_weights(tmp_path / name)
    with pytest.raises(BadCheckpoint, match="a pipe or a device"):
        model_folder(str(tmp_path), "medclip")
    with pytest.raises(BadCheckpoint, match="is not a file"):
        load_head(tmp_path / name)


@pytest.mark.parametrize("length", [0, 10**6])
def test_what_only_begins_like_safetensors_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(length.to_bytes(8, "little") + b"{broken")
    with pytest.raises(BadCheckpoint, match=r"w\.pt is not a readable"):
        read_weights(file)


def test_prefixes_are_stripped_or_selected() -> None:
    state = {"module.a": torch.ones(1), "encoder.b": torch.ones(1), "c": torch.ones(1)}
    assert list(strip_prefix(state, "module.", "encoder.")) == ["a", "b", "c"]
    assert list(select_prefix(state, "encoder.")) == ["b"]


def test_a_fitting_state_is_loaded_and_half_precision_is_widened() -> None:
    source, target = Tiny(), Tiny()
    state = {
        key: v.half() if v.is_floating_point() else v for key, v in source.state_dict().items()
    }
    del state["norm.num_batches_tracked"]
    state["bert.embeddings.position_ids"] = torch.arange(4)
    assert load_state(target, state, "f.pt") == ()
    assert target.one.weight.dtype == torch.float32
    assert torch.equal(target.one.weight, source.one.weight.half().float())


def test_what_does_not_fit_is_counted_and_shown() -> None:
    state = Tiny().state_dict()
    state["one.weight"] = torch.zeros(4, 5)
    state["fc.weight"] = state["fc.bias"] = torch.zeros(1)
    del state["norm.weight"]
    with pytest.raises(BadCheckpoint) as caught:
        load_state(Tiny(), state, "f.pt")
    for words in (
        "f.pt does not fit Tiny",
        "missing 1 (norm.weight)",
        "unexpected 2 (fc.weight, fc.bias)",
        "mismatched 1 (one.weight is (4, 5), expected (4, 3))",
    ):
        assert words in str(caught.value)


def test_ignored_keys_and_a_minimum_share_are_respected() -> None:
    state = Tiny().state_dict()
    state["fc.weight"] = torch.zeros(1)
    assert load_state(Tiny(), state, "f.pt", ignore=(r"^fc\.",)) == ()
    del state["norm.weight"]
    lacking = load_state(Tiny(), state, "f.pt", ignore=(r"^fc\.",), minimum_share=0.8)
    assert lacking == ("norm.weight",)
    with pytest.raises(BadCheckpoint, match="contains 88%"):
        load_state(Tiny(), state, "f.pt", ignore=(r"^fc\.",), minimum_share=0.9)
    with pytest.raises(BadCheckpoint, match="contains 0%"):
        load_state(Tiny(), {}, "f.pt", minimum_share=0.5)


@pytest.mark.parametrize(
    "value",
    [torch.full((4,), torch.nan), torch.full((4,), torch.inf), torch.zeros(4, dtype=torch.int8)],
)
def test_values_that_are_no_weights_are_refused(value: torch.Tensor) -> None:
    state = Tiny().state_dict() | {"one.bias": value}
    with pytest.raises(BadCheckpoint, match=r"mismatched 1 \(one\.bias"):
        load_state(Tiny(), state, "f.pt")


def test_the_digest_sees_names_types_shapes_and_bytes_only() -> None:
    torch.manual_seed(0)
    first, second = Tiny(), Tiny()
    second.load_state_dict(first.state_dict())
    assert digest(first) == digest(second)
    assert len(digest(first)) == 64
    seen = {digest(first)}
    with torch.no_grad():
        second.one.weight[0, 0] += 1e-3
    seen.add(digest(second))
    seen.add(digest(Tiny().half().load_state_dict(first.state_dict()) and first.half()))
    reshaped = nn.Module()
    reshaped.one = nn.Linear(4, 3)
    seen.add(digest(reshaped))
    assert len(seen) == 4


def test_the_digest_does_not_depend_on_the_order_of_registration() -> None:
    one, other = nn.Module(), nn.Module()
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    for module, order in ((one, "ab"), (other, "ba")):
        for name in order:
            module.register_parameter(name, {"a": a, "b": b}[name])
    assert digest(one) == digest(other)


def test_a_layout_is_recognised_by_all_keys_of_a_signature() -> None:
    def card(name: str, *signature: str) -> ModelCard:
        return ModelCard(
            name=name,
            summary="",
            paper="",
            source="",
            licence="",
            capabilities=(),
            signature=signature,
        )

    cards = [card("none"), card("one", "a"), card("two", "a", "b"), card("three", "a", "c")]
    assert matching_cards(["a", "b", "x"], cards) == ["two", "one"]
    assert matching_cards([], cards) == []
