"""Any ViT, DINOv2 or DINOv3 encoder of transformers; see `g2dbench.pretrained.image.hf_vision`."""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.image.hf_vision import load_vision

CARD = ModelCard(
    name="hf_vit",
    summary="Any ViT, DINOv2 or DINOv3 encoder of transformers, from a folder or a hub id",
    paper="Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; Oquab et al., DINOv2, "
    "TMLR 2024; Siméoni et al., DINOv3, 2025",
    source="huggingface.co/models?other=dinov2, ?other=dinov3_vit, ?other=vit",
    licence="that of the weights; DINOv3 has a licence of its own, accepted on the hub",
    capabilities=("features",),
    source_kind="hub",
    tested_with=("transformers 5.24",),
    notes=("The image processor of the folder is used; the pooled vector is the class token.",),
)


def load(source: str | None, seed: int) -> Model:
    """The encoder of a folder or a hub id; `seed` is unused. Errors: see `load_vision`."""
    return load_vision(source, CARD)
