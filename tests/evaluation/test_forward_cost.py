"""The cost of a forward pass: counted by hand, and printed for any model reference."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from g2dbench.cards import ModelCard
from g2dbench.cli import app
from g2dbench.conformance.template import write_template
from g2dbench.errors import Misuse
from g2dbench.evaluation.forward_cost import measure
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.system.machine import Machine

CARD = ModelCard(
    name="m", summary="s", paper="p", source="s", licence="l", capabilities=("features",)
)


class Plain(Model):
    card = CARD
    preprocess = Preprocess(size=8)
    identity = Identity("m")
    channels, strides, fixed_size = (5,), (2,), True

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 2, stride=2)

    def features(self, images: Tensor) -> list[Tensor]:
        return [self.convolution(images)]

    def pooled(self, images: Tensor) -> Tensor:
        return self.features(images)[0].mean((2, 3))


def machine() -> Machine:
    return Machine(device=torch.device("cpu"))


def test_parameters_and_flops_are_those_of_a_convolution_by_hand() -> None:
    cost = measure(Plain(), machine(), batch_size=3, repeats=2)
    assert cost.weights == 5 * 3 * 2 * 2 + 5
    assert cost.gflop_per_image * 1e9 == pytest.approx(2 * 16 * 5 * 3 * 2 * 2)  # 16 outputs
    assert (cost.output, cost.batch_size, cost.image_size, cost.texts_per_s) == ("pooled", 3, 8, 0)
    assert cost.images_per_s > 0


class Attends(Plain):
    """16 tokens of width 4 that attend to each other: for two heads torch has a fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 2, stride=2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def pooled(self, images: Tensor) -> Tensor:
        tokens = self.convolution(images).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)


def test_fused_attention_is_counted() -> None:
    cost = measure(Attends(), machine(), batch_size=1, repeats=1)
    projections = 2 * 16 * 4 * (3 * 4 + 4)
    products = 2 * (2 * 16 * 16 * 4)
    patches = 2 * 16 * 4 * 3 * 2 * 2
    assert cost.gflop_per_image * 1e9 == pytest.approx(patches + projections + products)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_without_image_outputs_is_refused() -> None:
    class Nothing(Model):
        card = CARD
        preprocess = Preprocess(size=8)
        identity = Identity("nothing")

    with pytest.raises(Misuse, match="nothing computes nothing from images"):
        measure(Nothing(), machine(), 1, 1)


@pytest.mark.integration
def test_the_command_measures_any_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_template("model", Path("mine.py"))
    words = ["profile", "--model", "mine.py", "--model", "random-init", "--batch-size", "2"]
    done = CliRunner().invoke(app, [*words, "--steps", "1", "--json", "c.json"])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    mine, resnet = json.loads(Path("c.json").read_text())
    assert mine["model"] == "mine"
    # torchvision states 1.81 GMAC at 224 px for a ResNet-18 with its classifier
    assert resnet["gflop_per_image"] == pytest.approx(2 * 1.814 * (64 / 224) ** 2, rel=0.01)
    assert resnet["texts_per_s"] > 0
    mixed = CliRunner().invoke(app, ["profile", "--model", "random-init", "--recipe", "g2d-tiny"])
    assert mixed.exit_code == 2
