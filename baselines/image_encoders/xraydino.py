"""XrayDINO: DINOv2 on chest X-rays at 224 pixels, by Stanford AIMI (Chen et al., 2024)."""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.image.hf_vision import load_vision

CARD = ModelCard(
    name="xraydino",
    summary="XrayDINO: a DINOv2 ViT-B/14 on chest X-rays, without texts",
    paper="Chen et al., CheXagent: Towards a Foundation Model for Chest X-Ray Interpretation, 2024",
    source="huggingface.co/StanfordAIMI/dinov2-base-xray-224",
    licence="CC BY-NC 4.0",
    capabilities=("features",),
    trained_on=("mimic_cxr", "chexpert"),
    source_kind="hub",
    files=("model.safetensors",),
    noncommercial=True,
    tested_with=("transformers 5.24",),
    openness="weights public; training code not; list of training images not",
    notes=(
        "The full list of its training sets is not published; those named here are a lower bound.",
        "RadZero runs it at 518 pixels; here the folder's image processor decides.",
    ),
)


def load(source: str | None, seed: int) -> Model:
    """XrayDINO from a folder or the hub; `seed` is unused. Errors: see `load_vision`."""
    return load_vision(source, CARD, ("dinov2",))
