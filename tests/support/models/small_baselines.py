"""Small models with random weights in the official file format of each wrapper."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    BertConfig,
    BertTokenizerFast,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.registry import Registry
from support.models.small_texts import save_clip_tokenizer

TEXTS = ["pleural effusion", "there is no pneumothorax", "left"]

CLIP_TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VIT = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 64}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 64}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pleural", "effusion", "no", "left", "is"]


def clip_config(vision: dict[str, Any], width: int = 24, **more: Any) -> dict[str, Any]:
    return {"embed_dim": width, "vision_cfg": vision, "text_cfg": CLIP_TEXT, **more}


def trunk(name: str, pool: str, proj: str) -> dict[str, Any]:
    side = timm.get_pretrained_cfg(name).input_size[-1]
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": side}


OPEN_CLIPS: dict[str, dict[str, Any]] = {
    "vit": clip_config(VIT),
    "vit_avg": clip_config({**VIT, "pool_type": "avg", "final_ln_after_pool": True}),
    "vit_attention": clip_config({**VIT, "attentional_pool": True, "attn_pooler_heads": 2}),
    "resnet": clip_config(RESNET),
    "timm_token": clip_config(trunk("test_vit", "token", "linear"), custom_text=True),
    "timm_avg": clip_config(trunk("test_vit", "avg", "linear")),
    "timm_map": clip_config(trunk("test_vit", "map", "none"), 64, init_logit_bias=-10),
    "timm_resnet": clip_config(trunk("test_resnet", "avg", "linear")),
    "timm_convnext": clip_config(trunk("test_convnext", "avg", "mlp")),
    "one_patch": clip_config({**VIT, "image_size": 16, "pool_type": "avg"}),
    "learned_positions": clip_config(trunk("resnet10t", "abs_attn", ""), 64),
}


def random_weights(build: Callable[[], Any]) -> Any:
    """A module whose every weight differs from a constant, so that nothing is hidden by zeros."""
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    return module.eval()


def make_open_clip(folder: Path, kind: str = "vit", **preprocess: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": OPEN_CLIPS[kind], "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    clip = random_weights(lambda: open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def make_biomedclip(folder: Path) -> Path:
    """A timm ViT and a BERT, as BiomedCLIP has them."""
    return make_open_clip_bert(folder, trunk("test_vit", "", "linear"))


def make_open_clip_bert(
    folder: Path, vision: dict[str, Any] | None = None, context: int = 12, **bert: Any
) -> Path:
    """A text tower of transformers, its configuration and vocabulary beside it.

    context: tokens of a text. bert: other sizes of the text tower.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_bert_files(folder, **bert)
    text = {
        "hf_model_name": "nobody/bert",
        "hf_tokenizer_name": "nobody/bert",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": context,
    }
    config = {"embed_dim": 24, "vision_cfg": vision or VIT, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    local = {
        **config,
        "text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False},
    }
    clip = random_weights(lambda: open_clip.CustomTextCLIP(**local))
    state = clip.state_dict() | {
        "text.transformer.embeddings.position_ids": torch.arange(context)[None]
    }
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    return folder


BERT: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 16,
}  # fmt: skip


def save_bert_files(folder: Path, **sizes: Any) -> None:
    """Configuration and vocabulary; sizes: other ones than those of BERT."""
    BertConfig(**{**BERT, **sizes}).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)


def make_hf_clip(folder: Path) -> Path:
    text = {"vocab_size": 54, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 14,
            "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 64, "patch_size": 16}  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    random_weights(lambda: CLIPModel(config)).save_pretrained(folder)
    save_clip_tokenizer(folder)
    CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64).save_pretrained(folder)
    return folder


def make_hf_siglip(folder: Path) -> Path:
    text = {"vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 9,
            "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 56, "patch_size": 14}  # fmt: skip
    config = SiglipConfig(text_config=text, vision_config=vision)
    random_weights(lambda: SiglipModel(config)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


def make_encoder(folder: Path, name: str = "test_vit") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    safetensors.torch.save_file(random_weights(lambda: timm.create_model(name)).state_dict(), file)
    return f"{name}@{file}"


def load(card: str, source: object = None, seed: int = 0) -> Model:
    """The model of a card; a weight that its file does not give is NaN."""
    entry = Registry().find(ModelCard, card)
    module = entry.load()
    with nothing_drawn() if entry.card.needs_weights else nullcontext():
        model: Model = module.load(None if source is None else str(source), seed)
    return model


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """New layers are NaN instead of random: faster, and a weight that nobody fills is seen."""

    def fill(tensor: Tensor, *_: object, **__: object) -> Tensor:
        with torch.no_grad():
            return tensor.fill_(torch.nan)

    names = ("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_")
    with mock.patch.multiple(torch.nn.init, **dict.fromkeys(names, fill)):
        yield


def pictures(count: int = 3) -> list[NDArray[np.uint8]]:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 90, 120), dtype=np.uint8)
    return [np.zeros((70, 70), np.uint8), *drawn[1:]]


def inputs(model: Model) -> Tensor:
    return model.preprocess.batch(pictures())


def pixel_gap(model: Model, image: NDArray[np.uint8], reference: Tensor) -> float:
    """Largest difference between two normalised images, in grey levels of 255."""
    std = torch.tensor(model.preprocess.std).view(-1, 1, 1)
    return float(((model.preprocess(image) - reference).abs() * std * 255).max())
