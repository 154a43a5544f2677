"""Small models with random weights in the official file format of each wrapper."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    CLIPTokenizerFast,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.registry import Registry
from support.models.small_releases import make_biovil, make_g2d, make_medklip
from support.originals import (
    chexzero,
    convirt_benchx,
    gloria,
    kad,
    mflag,
    mgca_vit,
    mrm,
)
from support.originals.image_text import afloc, alta, carzero, mavl, med_unic_vit, prior, radzero

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


def make_open_clip_bert(folder: Path, vision: dict[str, Any] | None = None) -> Path:
    """A text tower of transformers, its configuration and vocabulary beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_bert_files(folder)
    text = {
        "hf_model_name": "nobody/bert",
        "hf_tokenizer_name": "nobody/bert",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 12,
    }
    config = {"embed_dim": 24, "vision_cfg": vision or VIT, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    local = {
        **config,
        "text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False},
    }
    clip = random_weights(lambda: open_clip.CustomTextCLIP(**local))
    state = clip.state_dict() | {"text.transformer.embeddings.position_ids": torch.arange(12)[None]}
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    return folder


def save_bert_files(folder: Path) -> None:
    BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    ).save_pretrained(folder)  # fmt: skip
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)


def save_clip_tokenizer(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {p: i for i, p in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)


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


WHOLE = [kind for kind in OPEN_CLIPS if kind not in ("one_patch", "learned_positions")]
"""The variants that can do all that the card says."""

FACTORIES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "random-init": ("random-init", lambda folder: None),
    "chance": ("chance", lambda folder: None),
    "chexzero": ("chexzero", chexzero.write),
    "gloria": ("gloria", gloria.write),
    "gloria-mimic": ("gloria-mimic", gloria.write),
    "imagenet": ("imagenet", lambda folder: make_encoder(folder, "test_resnet")),
    "mgca": ("mgca", mgca_vit.write),
    "convirt": ("convirt", convirt_benchx.write),
    "mflag": ("mflag", mflag.write),
    "kad": ("kad", kad.write),
    "mrm": ("mrm", mrm.write),
    "carzero": ("carzero", carzero.write),
    "mavl": ("mavl", mavl.write),
    "afloc": ("afloc", afloc.write),
    "prior": ("prior", prior.write),
    "med-unic": ("med-unic", med_unic_vit.write),
    "radzero": ("radzero", radzero.write),
    "alta": ("alta", alta.write),
    "encoder-vit": ("encoder", make_encoder),
    "encoder-cnn": ("encoder", lambda folder: make_encoder(folder, "test_resnet")),
    "hf-clip": ("hf_clip", make_hf_clip),
    "hf-siglip": ("hf_clip", make_hf_siglip),
    "biovil": ("biovil", make_biovil),
    "medklip": ("medklip", make_medklip),
    "g2d": ("g2d", make_g2d),
    "open_clip-bert": ("open_clip", make_open_clip_bert),
    "medsiglip": ("medsiglip", make_hf_siglip),
    "xrayclip": ("xrayclip", make_hf_clip),
    "xraysiglip": ("xrayclip", make_hf_siglip),
    "biomedclip": ("biomedclip", make_biomedclip),
    **{
        f"open_clip-{kind}": ("open_clip", lambda folder, kind=kind: make_open_clip(folder, kind))
        for kind in WHOLE
    },
}
"""Name of a case -> the card and what writes its SOURCE."""


def load(card: str, source: object = None, seed: int = 0) -> Model:
    module = Registry().find(ModelCard, card).load()
    model: Model = module.load(None if source is None else str(source), seed)
    return model


def pictures(count: int = 3) -> list[NDArray[np.uint8]]:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 90, 120), dtype=np.uint8)
    return [np.zeros((70, 70), np.uint8), *drawn[1:]]


def inputs(model: Model) -> Tensor:
    return model.preprocess.batch(pictures())


def pixel_gap(model: Model, image: NDArray[np.uint8], reference: Tensor) -> float:
    """Largest difference between two normalised images, in grey levels of 255."""
    std = torch.tensor(model.preprocess.std).view(-1, 1, 1)
    return float(((model.preprocess(image) - reference).abs() * std * 255).max())
