"""The advice for OpenAI's TorchScript files, followed to the letter, ends in a loaded model.

Their state_dict has half precision and three numbers that are no weights (input_resolution,
context_length, vocab_size); clip/model.py of openai/CLIP drops them, and so does open_clip.
"""

import json
import re
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.evaluation.model_reference import resolve
from g2dbench.registry import Registry

NUMBERS = {"input_resolution": 64, "context_length": 12, "vocab_size": 49408}
CONFIG = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {
        "layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 64,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}  # fmt: skip
TEXTS = ["there is pneumonia", "clear"]
JIT = pytest.mark.filterwarnings("ignore:.*torch.jit")


class _Archive(nn.Module):
    """Tensors under the names of a state_dict, in nested modules as a scripted network has them."""

    def forward(self, images: Tensor) -> Tensor:
        return images

    def put(self, name: str, value: Tensor) -> None:
        head, dot, rest = name.partition(".")
        if not dot:
            self.register_buffer(head, value)
            return
        if head not in dict(self.named_children()):
            self.add_module(head, _Archive())
        self.get_submodule(head).put(rest, value)  # type: ignore[operator]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An open_clip folder whose weights are OpenAI's kind of TorchScript."""
    config = {"model_cfg": CONFIG, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    archive = _Archive()
    for name, value in tower(tmp_path).state_dict().items():
        archive.put(name, value.half() if value.is_floating_point() else value)
    for name, number in NUMBERS.items():
        archive.put(name, torch.tensor(number))
    torch.jit.save(torch.jit.script(archive), tmp_path / "open_clip_pytorch_model.bin")
    return tmp_path


def tower(folder: Path) -> nn.Module:
    torch.manual_seed(0)
    return open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()


def load(folder: Path):
    registry = Registry()
    return resolve(f"open_clip:{folder}", registry).load(registry, 0)


@JIT
@torch.no_grad()
def test_the_advice_for_a_torchscript_file_ends_in_a_loaded_model(folder: Path) -> None:
    file = folder / "open_clip_pytorch_model.bin"
    with pytest.raises(BadCheckpoint, match="TorchScript program") as refusal:
        load(folder)
    advice = re.search(r"torch\.save\(.*\)$", str(refusal.value))
    assert advice
    exec(advice.group(), {"torch": torch})  # noqa: S102 - this is what the user would do
    (written,) = folder.glob("*_weights.bin")
    assert NUMBERS.keys() < torch.load(written).keys()
    written.replace(file)

    model = load(folder)
    reference = tower(folder).half().float()
    wanted = reference.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))
    assert torch.allclose(
        model.embed_texts(TEXTS), nn.functional.normalize(wanted, dim=-1), atol=1e-5
    )


@JIT
@pytest.mark.parametrize("name", ["input_resolutions", "visual.context_length"])
def test_only_the_three_numbers_are_left_out(folder: Path, name: str) -> None:
    file = folder / "open_clip_pytorch_model.bin"
    torch.save({**tower(folder).state_dict(), name: torch.tensor(64)}, file)
    with pytest.raises(BadCheckpoint, match=rf"unexpected 1 \({name}\)"):
        load(folder)


def test_a_weights_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ViT-B-32.pt"
    file.write_bytes(b"weights")
    with pytest.raises(Misuse, match=r"folder with open_clip_config\.json"):
        Registry().find(ModelCard, "open_clip").load().load(str(file), 0)
