"""Any model of OpenCLIP; see `g2dbench.pretrained.open_clip`."""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.open_clip import load_open_clip

CARD = ModelCard(
    name="open_clip",
    summary="Any OpenCLIP model, from a folder or a hub id",
    paper="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, "
    "ICML 2021; Ilharco et al., OpenCLIP, 2021",
    source="huggingface.co/models?library=open_clip",
    licence="that of the weights",
    capabilities=("embeds", "features", "locates"),
    source_kind="hub",
)


def load(source: str | None, seed: int) -> Model:
    """The model of a folder or a hub id; `seed` is unused. Errors: see `load_open_clip`."""
    return load_open_clip(source, CARD)
