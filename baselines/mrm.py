"""MRM: masked images and masked reports, restored together (Zhou et al., ICLR 2023).

Source: RL4M/MRM-pytorch at 3730ba4. SOURCE is the released `MRM.pth`, whose decoders of pixels and
reports are left out: it has no shared space of images and texts. What `pooled` and the feature map
are is described in `g2dbench.pretrained.image.masked_vit`.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.masked_vit import load_masked_vit

CARD = ModelCard(
    name="mrm",
    summary="MRM: ViT-B/16 trained to restore masked images and reports",
    paper="Zhou et al., Advancing Radiograph Representation Learning with Masked Record Modeling, "
    "ICLR 2023, arXiv 2301.13155",
    source="github.com/RL4M/MRM-pytorch (README: Google Drive, MRM.pth)",
    licence="MIT",
    capabilities=("features",),
    trained_on=("mimic_cxr",),
    signature=("patch_embed.proj.weight", "decoder_pred.weight", "bert_mlp.weight"),
    files=("MRM.pth",),
    input_size=224,
    tested_with=("torch 2.14", "timm 1.0.31"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "Pooled features are an untrained layer norm of the mean of the patches, as its "
        "fine-tuning starts; the trained norm is in the feature map alone.",
    ),
)

_PREPROCESS = Preprocess(size=224, fit="crop", mean=(0.4978,) * 3, std=(0.2449,) * 3)
_UNUSED_KEYS = (
    r"^decoder_",
    r"^mask_token$",
    r"^bert_encoder\.",
    r"^bert_mlp\.",
    r"^head\.",
)
"""Keys of the decoders of pixels and reports, and of a classifier."""


def load(source: str | None, seed: int) -> Model:
    """MRM from its file; `seed` is unused. Raises as `load_masked_vit`."""
    return load_masked_vit(CARD, _PREPROCESS, _UNUSED_KEYS, source)
