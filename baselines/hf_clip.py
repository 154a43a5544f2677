"""Any CLIP or SigLIP model of transformers; see `g2dbench.pretrained.hf_clip`."""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.hf_clip import load_clip

CARD = ModelCard(
    name="hf_clip",
    summary="Any CLIP or SigLIP model of transformers, from a folder or a hub id",
    paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, "
    "ICML 2021; Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023",
    source="huggingface.co/models?other=clip, huggingface.co/models?other=siglip",
    licence="that of the weights",
    capabilities=("embeds", "features", "locates"),
    source_kind="hub",
)


def load(source: str | None, seed: int) -> Model:
    """The model of a folder or a hub id; `seed` is unused. Errors: see `load_clip`."""
    return load_clip(source, CARD)
