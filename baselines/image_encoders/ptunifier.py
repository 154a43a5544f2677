"""PTUnifier: one fusion encoder for images, texts and pairs by soft prompts (Chen et al., 2023).

Shapes: h w the grid of the file's positions, 24 x 24 those of the input.
Source: zhjohnchan/PTUnifier at eee60eb. SOURCE is `ptunifier.ckpt` of the authors, or BenchX's
re-training. Here is its image encoder, the vision tower of OpenAI's CLIP without the last of its
twelve blocks; the class token and the patches are those after its final norm.

Differences from the original: its classifiers read the fusion of the image with soft prompts that
stand for the missing text, not the image encoder alone. The fusion is not rebuilt: the script of
its zero-shot classification is not in the repository.
"""

import math

from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from g2dbench.pretrained.image.feature_maps import to_grid
from g2dbench.pretrained.image.vit_encoder import build_vit, read_source
from g2dbench.pretrained.image.vit_names import CLIP_OPTIONS, from_openai_clip
from g2dbench.pretrained.layouts import part_of, part_with

CARD = ModelCard(
    name="ptunifier",
    summary="PTUnifier: the image encoder, CLIP's ViT-B/16 with eleven blocks",
    paper="Chen et al., Towards Unifying Medical Vision-and-Language Pre-training via Soft "
    "Prompts, ICCV 2023, arXiv 2302.08958",
    source="github.com/zhjohnchan/PTUnifier (README: Google Drive by application, ptunifier.ckpt), "
    "or huggingface.co/youngzhou12/PTUnifier",
    licence="none given",
    capabilities=("features",),
    trained_on=("mimic_cxr",),
    signature=("vision_encoder.visual.class_embedding", "pseudo_vision_token_pool"),
    files=("ptunifier.ckpt", "PTUnifier.ckpt"),
    gated=True,
    input_size=384,
    tested_with=("torch 2.14", "timm 1.0.31"),
    openness="code public; weights by application, a re-training public; no licence; data by "
    "agreement; no list of training images",
    notes=(
        "The authors classify images by the fusion with soft prompts; here is the image encoder "
        "alone, so that a figure of the paper is not repeated.",
        "It was trained at 288 pixels and is fine-tuned at 384, with positions resampled, as here.",
        "The authors' file also saw ROCO and MedICaT, figures of articles; BenchX's re-training "
        "saw MIMIC-CXR alone.",
        "The README names a zero-shot script (CheXpert 5x200) that is not in the repository.",
    ),
)

SIDE, PATCH = 384, 16
_PREPROCESS = Preprocess(
    size=SIDE, fit="crop", mean=CLIP_MEAN, std=CLIP_STD, resampling="bicubic"
)  # fmt: skip


def load(source: str | None, seed: int) -> Model:
    """PTUnifier's image encoder from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit.
    """
    state, file = read_source(CARD, source)
    state = from_openai_clip(part_of(part_with(state, "visual.class_embedding", file), "visual."))
    if "pos_embed" in state:
        state["pos_embed"] = _resample(state["pos_embed"])
    return build_vit(CARD, _PREPROCESS, state, file, **CLIP_OPTIONS)


def _resample(positions: Tensor) -> Tensor:
    """(1, 1 + h * w, C) -> (1, 1 + 24 * 24, C).

    Source: clip_model.py, adapt_position_encoding. A number of positions that is no square is left
    as it is, so that building the network reports it.
    """
    if math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
        return positions
    grid = to_grid(positions[:, 1:].float())
    cells = SIDE // PATCH
    resized = F.interpolate(grid, size=(cells, cells), mode="bicubic", align_corners=False)
    joined: Tensor = F.pad(resized.flatten(2).transpose(1, 2), (0, 0, 1, 0))
    joined[:, :1] = positions[:, :1]
    return joined
