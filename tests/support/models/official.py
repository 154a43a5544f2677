"""Sources of the published sizes with random weights, to measure what each model costs.

benchmarks/model_cost.py measures them. A model that is not listed has a row that says so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torchvision
from timm.models.swin_transformer import SwinTransformer
from transformers import (
    BertConfig,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViTImageProcessor,
)

from g2dbench.cards import MethodCard
from g2dbench.methods.g2d.export import export
from g2dbench.model import Identity
from g2dbench.pretrained.text.cxr_bert import CXRBert
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.pretrained.weights import digest
from g2dbench.recipes import recipe as recipes
from g2dbench.registry import Registry
from g2dbench.training.step_cost import Workload, make_jobs
from support.models.growth import (
    CLINICAL_BERT,
    deepened,
    edit_config,
    extend_vocabulary,
    grown,
    random_state,
    rewrite,
    with_bert,
)
from support.models.image_encoders import chexfound as small_chexfound
from support.models.image_encoders import eva_x as small_eva_x
from support.models.image_encoders import torchxrayvision as small_xrv
from support.models.image_text import biovil_t as small_biovil_t
from support.models.image_text import towers_with_bert
from support.models.small_baselines import (
    make_encoder,
    make_open_clip_bert,
    save_bert_files,
    save_clip_tokenizer,
    trunk,
)
from support.models.small_encoders import make_vision
from support.models.small_releases import make_biovil, make_medklip, maker
from support.originals import convirt_benchx, mflag, mgca_vit
from support.originals import gloria as small_gloria
from support.originals import kad as small_kad
from support.originals import mrm as small_mrm

BASE: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
WORKLOAD = Workload(steps=1, device="cpu", precision="fp32", random_weights=True)
BERT_BASE = {**BASE, "intermediate_size": 3072, **CLINICAL_BERT}


@dataclass(frozen=True)
class Official:
    """size: of the image encoder in words. write: fills a folder, returns SOURCE."""

    size: str
    write: Callable[[Path], object]


def ark(folder: Path) -> Path:
    swin = SwinTransformer(
        img_size=768, window_size=12, num_classes=0, embed_dim=192, depths=(2, 2, 18, 2),
        num_heads=(6, 12, 24, 48),
    )  # fmt: skip
    state = random_state(swin) | {"projector.weight": torch.randn(1376, 1536) * 0.02}
    state |= {"projector.bias": torch.zeros(1376)}
    for number, findings in enumerate((14, 14, 14, 3, 6, 1)):
        state[f"omni_heads.{number}.weight"] = torch.randn(findings, 1376) * 0.02
        state[f"omni_heads.{number}.bias"] = torch.zeros(findings)
    return _save({"teacher": state}, folder / "ark.pth.tar")


def chexfound(folder: Path) -> Path:
    sides = {64: 1024, 192: 3072, 352: 5472, 176: 2736, 17: 1025}
    file = small_chexfound.write(folder, prefix="")
    return rewrite(
        file, lambda s: deepened(grown(s, sides), r"^blocks\.0\.(\d+)\.", 24), key="teacher"
    )


def eva_x(folder: Path) -> Path:
    file = small_eva_x.write(folder, "base")
    return rewrite(file, lambda s: deepened(grown(s, {128: 768, 341: 2048}), r"^blocks\.(\d+)", 12))


def torchxrayvision(folder: Path) -> Path:
    net = torchvision.models.densenet121(num_classes=18)
    net.features.conv0 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return _save(net, folder / small_xrv.ALL)


def dinov2(folder: Path) -> Path:
    """The encoder of RAD-DINO and of XrayDINO, with the image processor of the latter."""
    make_vision(folder, "dinov2", image_size=518, **BASE)
    crop = {"height": 224, "width": 224}
    BitImageProcessor(size={"shortest_edge": 224}, crop_size=crop).save_pretrained(folder)
    return folder


def hf_vit(folder: Path) -> Path:
    make_vision(folder, "vit", image_size=224, intermediate_size=3072, **BASE)
    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)
    return folder


def mrm(folder: Path) -> Path:
    sides = {128: 768, 384: 2304, 512: 3072}
    encoder = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
    return rewrite(
        small_mrm.write(folder),
        lambda s: deepened(
            grown({k: v for k, v in s.items() if k.startswith(encoder)}, sides),
            r"^blocks\.(\d+)", 12,
        ),
        key="model",
    )  # fmt: skip


def biomedclip(folder: Path) -> Path:
    vision = trunk("vit_base_patch16_224", "", "linear")
    return make_open_clip_bert(folder, vision, 256, **BERT_BASE | {"vocab_size": 30522})


def biovil(folder: Path) -> Path:
    return _with_cxr_bert(make_biovil(folder))


def biovil_t(folder: Path) -> Path:
    return _with_cxr_bert(small_biovil_t.write(folder))


def _with_cxr_bert(folder: Path) -> Path:
    edit_config(folder, **BERT_BASE | {"vocab_size": 30522})
    state = CXRBert(BertConfig(vocab_size=30522)).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def chexzero(folder: Path) -> Path:
    clip = open_clip.create_model("ViT-B-32-quickgelu")
    return _save(random_state(clip), folder / "best_64_5e-05_original_22000_0.864.pt")


def convirt(folder: Path) -> Path:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for head in ("vis_proj.", "lin_proj."):
            state = grown(state, {128: 768, 96: 512}, head)
        return with_bert(state, "linguistic.encoder.")

    file = convirt_benchx.write(folder)
    extend_vocabulary(folder / "Bio_ClinicalBERT")
    return rewrite(file, change, key="model")


def cxr_clip(folder: Path) -> Path:
    return _with_clinical_bert(folder, "cxr_clip_r50", "text_encoder.text_encoder.", "model")


def medclip(folder: Path) -> Path:
    return _with_clinical_bert(folder, "medclip_r50", "text_model.model.", "")


def _with_clinical_bert(folder: Path, case: str, prefix: str, key: str) -> Path:
    towers_with_bert.write(folder, case)
    save_bert_files(folder / "Bio_ClinicalBERT", **BERT_BASE)

    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for head in ("image_projection.", "text_projection.", "text_model.projection_head."):
            state = grown(state, {16: 768, 12: 512}, head)
        return with_bert(state, prefix)

    rewrite(next(file for file in folder.iterdir() if file.is_file()), change, key=key)
    return folder


def g2d(folder: Path) -> Path:
    job = make_jobs(["g2d-paper"], WORKLOAD)[-1]
    tokenizer = train_wordpiece(["the heart is large", "no effusion", "lungs are clear"], 60)
    method = Registry().find(MethodCard, "g2d").load().build(job.recipe.model, tokenizer, 0)
    model = method.eval().as_model().eval()
    model.identity = Identity("g2d-paper", digest(model), 0)
    export(model, folder, "paper", recipes.load("g2d-paper").optim)
    return folder / "paper_encoder_decoder.pth"


def gloria(folder: Path) -> Path:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for head in ("global", "local"):
            state = grown(state, {128: 768}, f"gloria.img_encoder.{head}_embedder.")
        return with_bert(state, "gloria.text_encoder.model.")

    file = small_gloria.write(folder)
    extend_vocabulary(folder / "Bio_ClinicalBERT")
    return rewrite(file, change, key="state_dict")


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


def kad(folder: Path) -> Path:
    file = small_kad.write(folder)
    extend_vocabulary(folder / "Med-KEBERT")
    content = torch.load(file, weights_only=False)
    content["config"]["img_res"] = 512
    part = next(
        name for name, state in content.items()
        if isinstance(state, dict) and any(key.startswith("bert_model.") for key in state)
    )  # fmt: skip
    content[part] = with_bert(content[part], "bert_model.")
    return _save(content, file)


def medklip(folder: Path) -> Path:
    make_medklip(folder)
    make = maker("medklip")
    make.BERT.update(num_hidden_layers=12, vocab_size=28996)
    make.write_bert(folder, make.SEED)
    edit_config(folder / "Bio_ClinicalBERT", **make.BERT)
    return folder


def mflag_total(folder: Path) -> Path:
    file = mflag.write(folder)
    extend_vocabulary(folder / "BiomedVLP-CXR-BERT-general", 30522)
    return rewrite(file, lambda s: with_bert(s, "lm_model.bert.", vocab_size=30522))


def mgca(folder: Path) -> Path:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        sides = {128: 768, 384: 2304, 512: 3072}
        state = grown(state, sides, "img_encoder_q.model.")
        for head in ("global", "local"):
            state = grown(state, {128: 768}, f"img_encoder_q.{head}_embed.head.0.weight")
        state = deepened(state, r"^img_encoder_q\.model\.blocks\.(\d+)", 12)
        return with_bert(state, "text_encoder_q.model.")

    file = mgca_vit.write(folder)
    extend_vocabulary(folder / "Bio_ClinicalBERT")
    return rewrite(file, change, key="state_dict")


def open_clip_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    clip = open_clip.create_model("ViT-B-32")
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def _save(content: object, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file


OFFICIAL: dict[str, Official] = {
    "ark": Official("Swin-L", ark),
    "biomedclip": Official("ViT-B/16", biomedclip),
    "biovil": Official("ResNet-50", biovil),
    "biovil-t": Official("ResNet-50 and pooler", biovil_t),
    "chance": Official("none", lambda folder: None),
    "chexfound": Official("ViT-L/16", chexfound),
    "chexzero": Official("ViT-B/32", chexzero),
    "convirt": Official("ResNet-50", convirt),
    "cxr-clip": Official("ResNet-50", cxr_clip),
    "encoder": Official("ViT-B/16", lambda folder: make_encoder(folder, "vit_base_patch16_224")),
    "eva-x": Official("ViT-B/16", eva_x),
    "g2d": Official("ResNet-50 (and decoder, without texts)", g2d),
    "gloria": Official("ResNet-50", gloria),
    "gloria-mimic": Official("ResNet-50", gloria),
    "hf_clip": Official("ViT-B/32", hf_clip),
    "hf_vit": Official("ViT-B/16", hf_vit),
    "imagenet": Official("ResNet-50", lambda folder: make_encoder(folder, "resnet50")),
    "kad": Official("ResNet-50", kad),
    "medclip": Official("ResNet-50", medclip),
    "medklip": Official("ResNet-50", medklip),
    "medsiglip": Official("ViT-So400m/14", medsiglip),
    "mflag": Official("ResNet-50", mflag_total),
    "mgca": Official("ViT-B/16", mgca),
    "mrm": Official("ViT-B/16", mrm),
    "open_clip": Official("ViT-B/32", open_clip_folder),
    "rad-dino": Official("ViT-B/14", dinov2),
    "random-init": Official("ResNet-18", lambda folder: None),
    "torchxrayvision": Official("DenseNet-121", torchxrayvision),
    "xrayclip": Official("ViT-B/16", xrayclip),
    "xraydino": Official("ViT-B/14", dinov2),
}
"""Model -> its published size; of several sizes, the one that its authors name first."""
