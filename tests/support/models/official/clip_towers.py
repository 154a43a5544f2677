"""CLIP, SigLIP and models of their kind at their published sizes."""

import json
from pathlib import Path

import open_clip
import safetensors.torch
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from support.models.growth import (
    BERT_BASE,
    State,
    deepened,
    extend_vocabulary,
    grown,
    random_state,
    rewrite,
    save,
    values,
    with_bert,
)
from support.models.small_baselines import make_open_clip_bert, trunk
from support.models.small_texts import save_clip_tokenizer
from support.models.text_releases import make_medimageinsight, make_unimed_clip

WORDS, CLIP_WORDS = 30522, 49408
"""Tokens of BERT's and of CLIP's vocabulary."""


def biomedclip(folder: Path) -> Path:
    vision = trunk("vit_base_patch16_224", "", "linear")
    return make_open_clip_bert(folder, vision, 256, **BERT_BASE | {"vocab_size": 30522})


def chexzero(folder: Path) -> Path:
    clip = open_clip.create_model("ViT-B-32-quickgelu")
    return save(random_state(clip), folder / "best_64_5e-05_original_22000_0.864.pt")


def hf_clip(folder: Path) -> Path:
    return _clip(folder, 32)


def xrayclip(folder: Path) -> Path:
    return _clip(folder, 16)


def _clip(folder: Path, patch: int) -> Path:
    CLIPModel(CLIPConfig(vision_config={"patch_size": patch})).save_pretrained(folder)
    save_clip_tokenizer(folder)
    CLIPImageProcessor(size={"shortest_edge": 224}, crop_size=224).save_pretrained(folder)
    return folder


def medsiglip(folder: Path) -> Path:
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
             "num_attention_heads": 16}  # fmt: skip
    config = SiglipConfig(
        text_config={**sizes, "vocab_size": 32000},
        vision_config={**sizes, "image_size": 448, "patch_size": 14},
    )
    SiglipModel(config).save_pretrained(folder)
    save_clip_tokenizer(folder)
    SiglipImageProcessor(size={"height": 448, "width": 448}).save_pretrained(folder)
    return folder


def open_clip_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    clip = open_clip.create_model("ViT-B-32")
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def unimed_clip(folder: Path) -> Path:
    """The file of the ViT-B/16 and the base text encoder."""

    def change(state: State) -> State:
        sides = {64: 768, 192: 2304, 256: 3072, 24: 512, 17: 197}
        state = grown(state, sides, "module.visual.")
        state = grown(state, {64: 768, 44: 640, 24: 512}, "module.text_encoder.proj.")
        state = deepened(state, r"visual\.transformer\.resblocks\.(\d+)\.", 12)
        return with_bert(state, "module.text_encoder.transformer.", vocab_size=WORDS)

    file = make_unimed_clip(folder)
    extend_vocabulary(folder, WORDS)
    return rewrite(file, change, key="state_dict")


def medimageinsight(folder: Path) -> Path:
    """The sizes of its 2024.09.27/config.yaml."""
    make_medimageinsight(folder, CLIP_WORDS)
    (file,) = (folder / "vision_model").iterdir()
    state = safetensors.torch.load_file(file)
    text = {128: 1024, 384: 3072, 512: 4096, 54: CLIP_WORDS}
    state = grown(state, text, "lang_encoder.")
    state = grown(state, {128: 1024, 48: 1024}, "lang_projection")
    state = grown(state, {96: 2048, 48: 1024}, "image_projection")
    state = deepened(state, r"^lang_encoder\.resblocks\.(\d+)\.", 16)
    state = deepened(state, r"^image_encoder\.blocks\.2\.(\d+)\.", 9)
    safetensors.torch.save_file(_davit(state), file)
    return folder


def _davit(state: State) -> State:
    """The image encoder with published widths, stage by stage."""
    before = 3
    for stage, (small, width) in enumerate(((32, 256), (32, 512), (64, 1024), (96, 2048))):
        sides = {side * small: side * width for side in (1, 3, 4)}
        state = grown(state, sides, f"image_encoder.blocks.{stage}.")
        conv = f"image_encoder.convs.{stage}."
        weight, normed = f"{conv}proj.weight", before if stage else width
        kernel = list(state[weight].shape[2:])
        state[weight] = values(weight, [width, before, *kernel])
        state[f"{conv}proj.bias"] = values(f"{conv}proj.bias", [width])
        for part in ("weight", "bias"):
            state[f"{conv}norm.{part}"] = values(f"{conv}norm.{part}", [normed])
        before = width
    return grown(state, {96: 2048}, "image_encoder.norms.")
