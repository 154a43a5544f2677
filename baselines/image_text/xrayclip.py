"""XrayCLIP and XraySigLIP: CLIP and SigLIP towers tuned on chest X-rays, by Stanford AIMI.

Source: huggingface.co/StanfordAIMI (eight towers; the name says the loss, the suffix the initial
model); the reference is transformers. Paper: Chen et al., CheXagent, 2024.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.hf_clip import load_clip

CARD = ModelCard(
    name="xrayclip",
    summary="XrayCLIP and XraySigLIP: CLIP and SigLIP towers tuned on chest X-rays and reports",
    paper="Chen et al., CheXagent: Towards a Foundation Model for Chest X-Ray Interpretation, 2024",
    source="huggingface.co/StanfordAIMI: XrayCLIP__vit-b-16__laion2b-s34b-b88k, "
    "XraySigLIP__vit-l-16-siglip-384__webli and six more",
    licence="CC BY-NC 4.0",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr", "chexpert"),
    source_kind="hub",
    files=("model.safetensors",),
    noncommercial=True,
    text_needs="the tokenizer files in the same folder",
    tested_with=("transformers 5.24",),
    openness="weights public; training code and list of training images not",
    notes=(
        "RadHarmony runs the tower of 384 pixels at 512; here its own size is used.",
        "The full list of its training sets is not published; those named here are a lower bound.",
    ),
)


def load(source: str | None, seed: int) -> Model:
    """A tower from a folder or the hub; `seed` is unused. Errors: see `load_clip`."""
    return load_clip(source, CARD)
