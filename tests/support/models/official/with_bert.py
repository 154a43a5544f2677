"""Models with a BERT for reports at their published sizes."""

from pathlib import Path

import torch
from transformers import BertConfig

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
    BERT_BASE,
    State,
    deepened,
    edit_config,
    extend_vocabulary,
    grown,
    rewrite,
    save,
    with_bert,
)
from support.models.image_text import biovil_t as small_biovil_t
from support.models.image_text import towers_with_bert
from support.models.small_baselines import save_bert_files
from support.models.small_releases import make_biovil, make_medklip, maker
from support.models.text_releases import make_maco
from support.originals import convirt_benchx, mflag, mgca_vit
from support.originals import gloria as small_gloria
from support.originals import kad as small_kad

WORKLOAD = Workload(steps=1, device="cpu", precision="fp32", random_weights=True)


def biovil(folder: Path) -> Path:
    return _with_cxr_bert(make_biovil(folder))


def biovil_t(folder: Path) -> Path:
    return _with_cxr_bert(small_biovil_t.write(folder))


def _with_cxr_bert(folder: Path) -> Path:
    edit_config(folder, **BERT_BASE | {"vocab_size": 30522})
    state = CXRBert(BertConfig(vocab_size=30522)).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


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
    return save(content, file)


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


def maco(folder: Path) -> Path:
    """BERT's sizes are those of its bert/bert_encoder.py, the pooler's that of the file."""
    bert, kept = "bert_encoder.model.bert.", ("img_mlp.", "blocks.", "norm.", "patch_embed.")
    sizes = {"vocab_size": 30000, "hidden_size": 384, "num_hidden_layers": 6,
             "num_attention_heads": 6, "intermediate_size": 1536,
             "max_position_embeddings": 100}  # fmt: skip

    def change(state: State) -> State:
        for prefix in (*kept, "cls_token", "pos_embed"):
            state = grown(state, {64: 768, 192: 2304, 256: 3072}, prefix)
        pooler = grown(state, {64: 384}, f"{bert}pooler.")
        state = with_bert(deepened(state, r"^blocks\.(\d+)", 12), bert, **sizes)
        return state | {k: v for k, v in pooler.items() if k.startswith(f"{bert}pooler.")}

    return rewrite(make_maco(folder), change, key="model")
