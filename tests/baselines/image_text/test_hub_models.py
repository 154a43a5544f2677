"""MedSigLIP, XrayCLIP and BiomedCLIP are the library's models under their own cards."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models.golden import same
from support.models.small_baselines import (
    TEXTS,
    inputs,
    load,
    make_biomedclip,
    make_hf_clip,
    make_hf_siglip,
)
from transformers import CLIPModel, SiglipModel

from g2dbench.errors import BadCheckpoint

pytestmark = pytest.mark.integration

torch.set_num_threads(1)


@torch.no_grad()
@pytest.mark.parametrize("card", ["medsiglip", "xrayclip-siglip", "xrayclip-clip"])
def test_embeddings_are_those_of_transformers(tmp_path: Path, card: str) -> None:
    is_clip = card.endswith("-clip")
    folder = (make_hf_clip if is_clip else make_hf_siglip)(tmp_path / "m")
    model: Any = load(card.partition("-")[0], folder)
    reference: Any = (CLIPModel if is_clip else SiglipModel).from_pretrained(folder).eval()
    images = inputs(model)
    tokens = model.tokenizer(
        TEXTS,
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=14 if is_clip else 9,
    )
    if not is_clip:
        tokens = {"input_ids": tokens["input_ids"]}
    wanted = reference(pixel_values=images, **{k: v for k, v in tokens.items() if "type" not in k})
    same(
        {"images": model.embed_images(images), "texts": model.embed_texts(TEXTS)},
        {"images": wanted.image_embeds, "texts": wanted.text_embeds},
    )
    assert model.identity.label == f"{card.partition('-')[0]}:m"


def test_medsiglip_is_a_siglip(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="'clip' model; medsiglip reads siglip"):
        load("medsiglip", make_hf_clip(tmp_path / "m"))


@torch.no_grad()
def test_biomedclips_embeddings_are_those_of_open_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_biomedclip(tmp_path / "m")
    model: Any = load("biomedclip", folder)
    tokens = model.tokenizer(TEXTS)
    images = inputs(model)
    clip = model.clip
    hidden = clip.visual.trunk(images) @ clip.visual.head.proj.weight.T
    first = clip.text.transformer(
        input_ids=tokens, attention_mask=(tokens != 0).long()
    ).last_hidden_state[:, 0]
    texts = first @ clip.text.proj[0].weight.T
    texts = torch.nn.functional.gelu(texts) @ clip.text.proj[2].weight.T
    normalized = torch.nn.functional.normalize
    same(
        {"images": model.embed_images(images), "texts": model.embed_texts(TEXTS)},
        {"images": normalized(hidden, dim=-1), "texts": normalized(texts, dim=-1)},
    )
