"""Shared parts of methods: settings, contrastive loss, projector, text tower; and ConVIRT."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.method import Method
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.settings import (
    ContrastiveSettings,
    ProjectorSettings,
    TowerSettings,
    read_settings,
)
from g2dbench.methods.shared.two_towers import Projector, TextTower
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.registry import Registry

TEXT = {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12}
TINY: dict[str, Any] = {"width": 8, "image": {"encoder": "resnet18", "size": 64}, "text": TEXT}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(["the heart is large", "no effusion", "lungs are clear"], 60)


def build(name: str, tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> Method:
    module = Registry().find(MethodCard, name).load()
    method: Method = module.build({**TINY, **changes}, tokenizer, seed)
    return method


def pairs(count: int, width: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(count, width, generator=draw), torch.randn(count, width, generator=draw)


def test_equal_weights_give_clips_loss() -> None:
    image, text = pairs(7)
    own = Contrastive(ContrastiveSettings(temperature=0.05))(image, text)
    theirs = ClipLoss()(F.normalize(image, dim=-1), F.normalize(text, dim=-1), 20.0)
    torch.testing.assert_close(own, theirs)


def test_weighted_directions_by_hand() -> None:
    image = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    text = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    h = math.sqrt(0.5)
    rows = [math.log1p(math.exp((h - 1) / 0.5)), math.log1p(math.exp((0 - h) / 0.5))]
    columns = [math.log1p(math.exp((0 - 1) / 0.5)), math.log(2)]
    settings = ContrastiveSettings(temperature=0.5, image_to_text=0.75, text_to_image=0.25)
    wanted = 0.75 * sum(rows) / 2 + 0.25 * sum(columns) / 2
    assert float(Contrastive(settings)(image, text)) == pytest.approx(wanted, rel=1e-6)


def test_released_g2d_loss_is_the_sum_of_both_directions() -> None:
    """The value is that of PRETRAIN/utils/loss.py clip_loss for these two waves."""
    at = torch.arange(30, dtype=torch.float64) * 1.7
    image = (torch.sin(at + 0.1) * 0.6).float().view(6, 5)
    text = ((torch.sin(at + 2.0) * 0.6).float() ** 2).view(6, 5)
    own = Contrastive(ContrastiveSettings(image_to_text=1, text_to_image=1))(image, text)
    assert float(own) == pytest.approx(8.398326873779297, rel=1e-6)


def test_a_learned_temperature_is_a_parameter_and_stays_within_100() -> None:
    fixed, learned = (Contrastive(ContrastiveSettings(learned=on)) for on in (False, True))
    assert [len(list(loss.parameters())) for loss in (fixed, learned)] == [0, 1]
    assert learned.scale().item() == pytest.approx(1 / 0.07, rel=1e-6)
    learned(*pairs(4)).backward()
    assert learned.log_scale.grad is not None
    with torch.no_grad():
        learned.log_scale.fill_(9)
    assert learned.scale().item() == pytest.approx(100, rel=1e-6)


RANK = """
import sys
import torch
from torch import distributed
from g2dbench.methods.shared.contrastive import Contrastive
from g2dbench.methods.shared.settings import ContrastiveSettings

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
image, text = (x.requires_grad_() for x in torch.load(f"{folder}/pairs.pt"))
own = slice(3 * rank, 3 * rank + 3)
loss = Contrastive(ContrastiveSettings(image_to_text=0.75, text_to_image=0.25))
found = loss(image[own], text[own])
found.backward()
torch.save((found.detach(), image.grad, text.grad), f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_devices_have_the_loss_and_the_gradient_of_one(tmp_path: Path) -> None:
    torch.save(pairs(6), tmp_path / "pairs.pt")
    commands = [[sys.executable, "-c", RANK, str(rank), str(tmp_path)] for rank in (0, 1)]
    running = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    image, text = (x.requires_grad_() for x in pairs(6))
    whole = Contrastive(ContrastiveSettings(image_to_text=0.75, text_to_image=0.25))(image, text)
    whole.backward()
    for found, wanted in zip(zip(*parts, strict=True), (whole, image.grad, text.grad), strict=True):
        torch.testing.assert_close(sum(found) / 2, wanted.detach())


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_the_projector_is_two_pointwise_convolutions(norm: str) -> None:
    own = Projector(ProjectorSettings.model_validate({"norm": norm, "hidden": 6}), 5, 4)
    first, second = nn.Conv2d(5, 6, 1), nn.Conv2d(6, 4, 1)
    for conv, linear in ((first, own.first), (second, own.second)):
        conv.weight.data = linear.weight.data[:, :, None, None]
        conv.bias.data = (
            linear.bias.data if linear.bias is not None else torch.zeros(len(conv.weight))
        )
    x = torch.randn(3, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    hidden = first(x)
    if norm == "batch":
        hidden = nn.BatchNorm2d(6, affine=False)(hidden)
    if norm == "layer":
        hidden = F.layer_norm(hidden.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)
    wanted = second(F.relu(hidden)).permute(0, 2, 3, 1)
    torch.testing.assert_close(own(x.permute(0, 2, 3, 1)), wanted)


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("project", ["pooled", "tokens"])
def test_padding_does_not_change_a_text_embedding(
    pool: str, project: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    table = {"text": {**TEXT, "pool": pool, "project": project}, "width": 8}
    tower = TextTower(read_settings(TowerSettings, table), len(tokenizer)).eval()
    coded = tokenizer(["no effusion"], return_tensors="pt")
    tokens, attention = coded["input_ids"], coded["attention_mask"]
    padded = tower(F.pad(tokens, (0, 3)), F.pad(attention, (0, 3)))
    torch.testing.assert_close(padded, tower(tokens, attention), rtol=1e-4, atol=1e-5)


@pytest.fixture
def bert(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> tuple[Path, BertModel]:
    config = BertConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=32,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", model


def test_a_published_bert_is_loaded_frozen_and_rebuilt_without_download(
    bert: tuple[Path, BertModel], tokenizer: PreTrainedTokenizerFast
) -> None:
    folder, source = bert
    text = {"source": str(folder), "max_length": 12, "frozen_layers": 2, "frozen_embeddings": True}
    method = build("convirt", tokenizer, text=text)
    inner = method.text.encoder.bert
    key = "encoder.layer.1.intermediate.dense.weight"
    assert torch.equal(inner.state_dict()[key], source.state_dict()[key])
    learns = {n.split(".layer.")[-1][0] for n, p in inner.named_parameters() if p.requires_grad}
    assert learns == {"2"}
    again = Registry().find(MethodCard, "convirt").load().build(method.architecture, tokenizer, 9)
    assert method.architecture["text"]["source"] == "scratch"
    again.load_state_dict(method.state_dict())
    a, b = (m.as_model().eval().embed_texts(["no effusion"]) for m in (method, again))
    assert torch.equal(a, b)


def test_impossible_settings_are_refused_with_a_reason(
    bert: tuple[Path, BertModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = str(bert[0])
    broken = tmp_path / "weights.pt"
    broken.write_bytes(b"nothing")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"widht": 3}, Misuse, "did you mean 'width'"),
        ({"image": {"encodr": "x"}}, Misuse, r"setting of \[model.image\].*'encoder'"),
        ({"image": {"encoder": "resnet5"}}, Misuse, "did you mean 'resnet50'"),
        ({"image": {"encoder": "resnet18", "weights": "w"}}, Misuse, "no such file"),
        ({"image": {"encoder": "resnet18", "weights": str(broken)}}, BadCheckpoint, "weights.pt"),
        ({"image": {"size": 100}}, Misuse, r"model.image.size = 100"),
        ({"image": {"std": [0.0]}}, Misuse, "above 0"),
        ({"width": 0}, Misuse, r"model.width = 0"),
        ({"text": {"hidden": 3, "heads": 2}}, Misuse, r"model.text: hidden 3"),
        ({"text": {**TEXT, "frozen_layers": 2}}, Misuse, "frozen_layers is 2"),
        ({"text": {"source": folder, "max_length": 64}}, Misuse, "32 positions"),
        ({"text": {"source": str(tmp_path / "none")}}, BadCheckpoint, "not a folder with a BERT"),
        ({"contrastive": {"image_to_text": 0, "text_to_image": 0}}, Misuse, "both 0"),
        ({"image": 3}, Misuse, "model.image = 3"),
    ]
    for change, kind, words in cases:
        with pytest.raises(kind, match=words):
            build("convirt", tokenizer, **change)


def test_image_weights_come_from_a_file(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    first = build("convirt", tokenizer, seed=1)
    file = tmp_path / "encoder.pt"
    torch.save(first.encoder.state_dict(), file)
    image = {**TINY["image"], "weights": str(file)}
    second = build("convirt", tokenizer, seed=2, image=image)
    assert torch.equal(first.encoder.conv1.weight, second.encoder.conv1.weight)
    assert second.architecture["image"]["weights"] == ""


def test_convirts_defaults_are_those_of_its_source(tokenizer: PreTrainedTokenizerFast) -> None:
    method = build("convirt", tokenizer, text={**TEXT})
    table = method.architecture
    assert table["text"]["pool"] == "mean"
    assert table["projector"] == {"hidden": -1, "norm": "none"}
    assert table["contrastive"]["temperature"] == 0.1
    assert table["contrastive"]["image_to_text"] == 0.75
    assert table["contrastive"]["text_to_image"] == 0.25
    assert method.projector.first.weight.shape == (512, 512)
