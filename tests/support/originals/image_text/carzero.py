"""CARZero: laihaoran/CARZero at fa4e09c; models/, CARZero.py, builder.py."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from support.originals import gloria, seeded
from support.originals.imports import imported, settings
from support.originals.kad import decoder_layers

CARD, CHECKOUT, COMMIT = "carzero", "laihaoran/CARZero", "fa4e09c"
WIDTH, DEPTH, LAYERS = 128, 2, 3
FINDINGS = ("Pneumonia", "Pleural_Thickening", "Heart failure")
TEXTS = (*seeded.TEXTS, "Pneumonia", "1. No effusion;\nclear lungs.")


def fusion_layout() -> dict[str, Tensor]:
    widths = (WIDTH, 1024, 512, 256, 1)
    head = [
        seeded.placed(f"mlp_head.{3 * i}.", nn.Linear(widths[i], widths[i + 1])) for i in range(4)
    ]
    return {
        "logit_scale": torch.empty(()),
        **seeded.placed("decoder_norm.", nn.LayerNorm(WIDTH)),
        **decoder_layers(WIDTH),
        **{key: value for part in head for key, value in part.items()},
    }


def state() -> dict[str, Tensor]:
    """The layout of the released Lightning file's state_dict; one norm occurs twice."""
    trunk = timm.models.VisionTransformer(
        embed_dim=WIDTH, depth=DEPTH, num_heads=2, num_classes=0, global_pool="token"
    )
    layout = {
        **seeded.placed("img_encoder.model.", trunk),
        **seeded.placed("text_encoder.model.", seeded.bert(WIDTH, LAYERS)),
        **{f"fusion_module.{key}": value for key, value in fusion_layout().items()},
    }
    filled = seeded.fill({f"CARZero.{key}": value for key, value in layout.items()})
    for part in ("weight", "bias"):
        norm = filled[f"CARZero.fusion_module.decoder_norm.{part}"]
        filled[f"CARZero.fusion_module.decoder.norm.{part}"] = norm
    return filled


def write(folder: Path) -> Path:
    seeded.write_vocabulary(folder / "BioClinicalMPBERT")
    position = {"CARZero.text_encoder.model.embeddings.position_ids": torch.arange(128)[None]}
    content = {"state_dict": state() | position, "hyper_parameters": {"lr": 5e-5}, "epoch": 9}
    torch.save(content, folder / "CARZero_best_model.ckpt")
    return folder / "CARZero_best_model.ckpt"


def ours(model: Any) -> dict[str, Tensor]:
    images = model.preprocess.batch(seeded.radiographs()[:2])
    tokens = model.image_tokens(images)
    return {
        "input": images,
        "pooled": model.pooled(images),
        "patches": tokens[:, 1:],
        "texts": model.text_tokens(TEXTS)[:, 0],
        "similarities": model.similarities(images, TEXTS),
        "matches": model.match(images, FINDINGS),
        "attention": model.locate(images, TEXTS),
    }


def original(checkout: Path) -> dict[str, Tensor]:
    """The authors' model class on its own text and image processing.

    Patched: ipdb, omegaconf, Lightning, pandas' plots and the like (imported, unused),
    `numpy.lib.function_base`, nltk's RegexpTokenizer (the same expression with `re`), the other
    variants of the model, and `vit_b_16`, which reads a file: its class MRM is built directly.
    """
    given = {
        "nltk.tokenize": {"RegexpTokenizer": gloria.Words},
        "numpy.lib.function_base": {"extract": None},
    }
    stand_ins = (
        "ipdb", "omegaconf", "nltk", "pytorch_lightning", "albumentations", "CARZero.lightning",
        "CARZero.datasets", "matplotlib", "matplotlib.pyplot", "skimage", "skimage.transform",
        "skimage.io", "segmentation_models_pytorch", "CARZero.models.bert_model",
        "CARZero.models.fusion_module", "CARZero.models.mrm_pretrain_model",
    )  # fmt: skip
    with TemporaryDirectory() as name, imported([checkout], stand_ins, given) as load:
        folder = seeded.write_bert_repository(Path(name), seeded.bert(WIDTH, LAYERS))
        package = load("CARZero.CARZero")
        backbones = load("CARZero.models.transformer_backbones")
        backbones.vit_b_16 = lambda pretrained: (vision(backbones), WIDTH, None)
        model = package.builder.build_CARZero_dqn_wo_self_atten_mlp_gl_model(settings_of(folder))
        model.load_state_dict({key.removeprefix("CARZero."): v for key, v in state().items()})
        model.eval()
        images = torch.stack([prepare(model, image) for image in seeded.radiographs()[:2]])
        text = model.process_text(list(TEXTS), "cpu")
        regions, pooled = model.image_encoder_forward(images)
        prompts = [f"There is {name.replace('_', ' ')}" for name in FINDINGS]
        scores = [
            torch.from_numpy(package.get_dqn_similarities(model, images, each))
            for each in (text, model.process_text(prompts, "cpu"))
        ]
        return {
            "input": images,
            "pooled": pooled,
            "patches": regions.flatten(2).transpose(1, 2),
            "texts": model.text_encoder_forward(
                text["caption_ids"], text["attention_mask"], text["token_type_ids"]
            )[1],
            "similarities": scores[0],
            "matches": scores[1].sigmoid(),
            "attention": torch.from_numpy(package.get_grounding_map(model, images, text)[1]),
        }


def vision(backbones: Any) -> Any:
    """Its image encoder at this width; one method reshapes to 768 columns, whatever the width."""
    model = backbones.MRM(
        embed_dim=WIDTH, depth=DEPTH, num_heads=2,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    model.unlocalpatchify = lambda patches: patches.transpose(1, 2).unflatten(2, (14, 14))
    return model


def settings_of(bert: Path) -> SimpleNamespace:
    """configs/mimic_pretrain_llm_dqn_wo_self_atten_mlp_gl.yaml with smaller encoders."""
    return settings(
        phase="pretrain_llm_dqn_wo_self_atten_mlp_gl",
        model={
            "norm": False,
            "CARZero": {
                "local_loss_weight": 1.0, "global_loss_weight": 1.0, "ce_loss_weight": 1.0,
                "temp1": 4.0, "temp2": 5.0, "temp3": 10.0,
            },
            "vision": {
                "model_name": "vit_b_16", "base": "transformer", "freeze_cnn": False,
                "pretrained": True,
            },
            "text": {
                "bert_type": str(bert), "last_n_layers": 4, "aggregate_method": "sum",
                "norm": False, "embedding_dim": WIDTH, "freeze_bert": False, "agg_tokens": True,
            },
            "fusion": {"d_model": WIDTH, "class_num": 1, "decoder_number_layer": 4},
        },
        data={"text": {"word_num": 97}, "image": {"imsize": 256}},
        train={"batch_size": 256},
    )  # fmt: skip


def prepare(model: Any, image: Any) -> Tensor:
    """As `process_img` after reading, with the test transform of its configuration."""
    steps = [transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize(mean=[0.4978], std=[0.2449]))
    return transforms.Compose(steps)(Image.fromarray(model._resize_img(image, 256)).convert("RGB"))


def thinned(results: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        **results,
        "input": results["input"][:, 0, ::31, ::31],
        "pooled": results["pooled"][:, ::4],
        "patches": results["patches"][:, ::20, ::8],
        "texts": results["texts"][:, ::4],
        "attention": 196 * results["attention"][:, :, ::4, ::4],
    }
