"""RadZero: deepnoid-ai/RadZero at 656ae5f; exp/cxr_pt/model, exp/cxr_pt/configs/radzero.yaml."""

import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizerFast,
)

try:
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
except ImportError:  # before transformers 5, where it is the only one
    from transformers import BlipImageProcessor as BlipImageProcessorPil

from g2dbench.pretrained.towers import modern_dinov2
from support.originals import seeded
from support.originals.imports import imported

CARD, CHECKOUT, COMMIT = "radzero", "deepnoid-ai/RadZero", "656ae5f"
WIDTH, SIDE = 128, 84
VISION = Dinov2Config(
    hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
)
WORDS = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", *seeded.WORDS[5:], "<mask>")
TEXT = MPNetConfig(
    vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=48, max_position_embeddings=66,
)  # fmt: skip
ALIGN = {"model_type": "align_transformer", "hidden_size": WIDTH, "num_hidden_layers": 2,
         "num_attention_heads": 2, "projector_config": None, "use_layer_norm": False}  # fmt: skip
OLD = (
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
)
"""Names in transformers 5 -> those of version 4, which wrote the file."""
FINDINGS = ("Pneumonia", "Pleural_Effusion")


def names() -> dict[str, Tensor]:
    """The layout of the official class, with the names of transformers 5 in every version."""
    align = Dinov2Model(Dinov2Config(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2))
    layout = {
        **seeded.placed("vision_model.", Dinov2Model(VISION)),
        **seeded.placed("text_model.", MPNetModel(TEXT)),
        **seeded.placed("align_transformer.transformer_layers.", align.encoder),
        **seeded.placed("loss_fns.RadZeroLoss.layer_norm.", nn.LayerNorm(WIDTH)),
        "loss_fns.RadZeroLoss.loss_temperature": torch.empty(1),
    }
    filled = seeded.fill(modern_dinov2(layout))
    filled["loss_fns.RadZeroLoss.loss_temperature"] -= 2.5
    return filled


def state() -> dict[str, Tensor]:
    """The layout of model.safetensors."""
    return {old_name(key): value for key, value in names().items()}


def old_name(key: str) -> str:
    for new, old in OLD if "text_model" not in key else ():
        key = key.replace(new, old)
    return key


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(state(), folder / "model.safetensors")
    tokenizer().save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def processor() -> Any:
    """BLIP's processor, on Pillow as in the authors' version of transformers."""
    return BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})


def tokenizer() -> Any:
    words = {word: i for i, word in enumerate(WORDS)}
    try:
        return MPNetTokenizerFast(vocab=words)
    except (TypeError, ValueError):  # before transformers 5, where a file is the only way
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "vocab.txt"
            file.write_text("\n".join(WORDS), encoding="utf-8")
            return MPNetTokenizerFast(vocab_file=str(file))


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    return {
        "input": images,
        "pooled": model.pooled(images),
        "texts": model.text_vectors(seeded.TEXTS),
        "logits": model.similarities(images, seeded.TEXTS)[0],
        "matches": model.match(images, FINDINGS),
        "maps": model.locate(images, seeded.TEXTS),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' class, put together from its own parts, and its `compute_logits`.

    Patched: its constructor, which downloads both encoders; the trainer's logger, its package's
    loading with peft, and CARZero's ViT (imported, unused); `compute_i2t_loss`, which its loss
    lacks, is off.
    """
    package = ModuleType("exp.cxr_pt.model")
    package.__path__ = [str(checkout / "exp" / "cxr_pt" / "model")]
    outer = "external.CARZero.CARZero.models"
    backbones = {"MRM": type("MRM", (nn.Module,), {}), "load_weight": None}
    given = {f"{outer}.transformer_backbones": backbones, "exp.cxr_pt.model": package}
    stand_ins = ("common", "common.trainer", "external", "external.CARZero",
                 "external.CARZero.CARZero", outer)  # fmt: skip
    with imported([checkout], stand_ins, given) as load:
        model = build(load)
        images = torch.cat([prepare(picture) for picture in seeded.radiographs()[:2]])
        prompts = [f"There is {name.replace('_', ' ')}" for name in FINDINGS]
        found, matched = (
            model.compute_logits(images, [coded(texts)]) for texts in (seeded.TEXTS, prompts)
        )
        side = int(found["similarity_scores"].shape[-1] ** 0.5)
        vision = model.forward_vision_model(images)
        return {
            "input": images,
            "pooled": vision["image_features"],
            "texts": model.forward_text_model(coded(seeded.TEXTS))["text_features_wo_l2_norm"],
            "logits": found["logits"],
            "matches": matched["logits"].sigmoid(),
            "maps": found["similarity_scores"].unflatten(2, (side, side)),
        }


def build(load: Any) -> Any:
    modeling = load("exp.cxr_pt.model.modeling")
    align = load("exp.cxr_pt.model.configuration").AlignTransformerConfig
    losses = load("exp.cxr_pt.model.losses").RadZeroLoss
    model = modeling.CxrAlignModel.__new__(modeling.CxrAlignModel)
    nn.Module.__init__(model)
    model.vision_model, model.text_model = Dinov2Model(VISION), MPNetModel(TEXT)
    model.align_transformer = load("exp.cxr_pt.model.align_transformers").AlignTransformer(
        align.from_exp_config(dict(ALIGN))
    )
    model.loss_fns = nn.ModuleDict({"RadZeroLoss": losses(hidden_dim=WIDTH, sim_op="cos")})
    model.loss_fns["RadZeroLoss"].compute_i2t_loss = False
    model.text_projector, model.compute_logits_type = None, "radzero"
    model.config = SimpleNamespace(text_config=SimpleNamespace(use_cls_token=False))
    model.load_state_dict(names())
    return model.eval()


def coded(texts: Any) -> Any:
    return tokenizer()(list(texts), padding=True, truncation=True, max_length=64,
                       return_tensors="pt")  # fmt: skip


def prepare(picture: Any) -> Tensor:
    image = Image.fromarray(picture).convert("RGB")
    pixels: Tensor = processor()(image, return_tensors="pt")["pixel_values"]
    return pixels


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, :, ::11, ::11],
        "pooled": results["pooled"][:, ::8],
        "texts": results["texts"][:, ::4],
    }
