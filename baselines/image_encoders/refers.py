"""REFERS: reports as supervision of three views at once (Zhou et al., Nature Machine Intelligence).

Source: funnyzhou/REFERS at df7e83e. SOURCE is the released `refers_checkpoint.pth`, a checkpoint of
its pre-training (`visual.vit.transformer.`), or BenchX's re-training. Its text encoder is matched
with the class tokens of three views of a study together, so that a single image and a text have no
common space: only the image encoder is here.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.image.vit_encoder import build_vit, read_source
from g2dbench.pretrained.image.vit_names import from_vit_pytorch
from g2dbench.pretrained.layouts import part_with

CARD = ModelCard(
    name="refers",
    summary="REFERS: ViT-B/16 supervised by the reports of studies with several views",
    paper="Zhou et al., Generalized Radiograph Representation Learning via Cross-supervision "
    "between Images and Free-text Radiology Reports, Nature Machine Intelligence 2022",
    source="github.com/funnyzhou/REFERS (README: Google Drive, refers_checkpoint.pth), or "
    "huggingface.co/youngzhou12/REFERS",
    licence="MIT",
    capabilities=("features",),
    trained_on=("mimic_cxr",),
    signature=("transformer.embeddings.cls_token", "transformer.encoder.encoder_norm.weight"),
    files=("refers_checkpoint.pth", "REFERS.pth"),
    input_size=224,
    tested_with=("torch 2.14", "timm 1.0.31"),
    openness="weights, code, licence and list of training images public; data by agreement",
    notes=(
        "Its texts are matched with three views of a study together: a single image and a text "
        "have no common space, so there is no zero-shot row.",
        "Its linear classifier reads the class token after the final norm.",
    ),
)

_PREPROCESS = Preprocess(size=224, fit="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD)


def load(source: str | None, seed: int) -> Model:
    """REFERS from one of its files; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit.
    """
    state, file = read_source(CARD, source)
    state = from_vit_pytorch(part_with(state, "embeddings.cls_token", file))
    return build_vit(CARD, _PREPROCESS, state, file)
