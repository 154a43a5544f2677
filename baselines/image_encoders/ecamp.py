"""ECAMP: masked images and entity-centered masked reports (Wang et al., 2023).

Source: ToniChopp/ECAMP at d02d16d. SOURCE is its released file, whose decoders of pixels, of higher
resolution and of reports are left out: it has no shared space of images and texts. What `pooled`
and the feature map are is described in `g2dbench.pretrained.image.masked_vit`.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.masked_vit import load_masked_vit

CARD = ModelCard(
    name="ecamp",
    summary="ECAMP: ViT-B/16 trained to restore masked images and entities of reports",
    paper="Wang et al., ECAMP: Entity-centered Context-aware Medical Vision Language Pre-training, "
    "2023, arXiv 2312.13316",
    source="github.com/ToniChopp/ECAMP (README: Google Drive, ECAMP_ViT_Base_16.pth)",
    licence="MIT",
    capabilities=("features",),
    trained_on=("mimic_cxr",),
    signature=(
        "patch_embed.proj.weight",
        "decoder_pred.weight",
        "super_res.conv1.weight",
        "bert_mlp.weight",
    ),
    files=("ECAMP_ViT_Base_16.pth",),
    input_size=224,
    tested_with=("torch 2.14", "timm 1.0.31"),
    openness="weights, code, licence and distilled reports public; data by agreement; no list of "
    "training images",
    notes=(
        "Pooled features are an untrained layer norm of the mean of the patches, as its "
        "fine-tuning starts; the trained norm is in the feature map alone.",
        "Fine-tuning normalizes by .4722 and .3028, as here; pre-training by .4721 and .3037.",
        "A second file of the authors is trained on eye images (FFA-IR): nothing in a file shows "
        "which one it is.",
    ),
)

_PREPROCESS = Preprocess(size=224, fit="crop", mean=(0.4722,) * 3, std=(0.3028,) * 3)
_UNUSED_KEYS = (
    r"^decoder_",
    r"^mask_token$",
    r"^super_res\.",
    r"^bert_encoder\.",
    r"^bert_mlp\.",
    r"^head\.",
)
"""Keys of the decoders of pixels and reports, and of a classifier."""


def load(source: str | None, seed: int) -> Model:
    """ECAMP from its file; `seed` is unused. Raises as `load_masked_vit`."""
    return load_masked_vit(CARD, _PREPROCESS, _UNUSED_KEYS, source)
