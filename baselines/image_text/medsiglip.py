"""MedSigLIP: SigLIP-400M at 448 pixels, tuned on medical images (Sellergren et al., 2025).

Source: huggingface.co/google/medsiglip-448 (gated); the reference is transformers' SiglipModel.
Texts are lower-cased without punctuation and padded to 64 tokens, as SigLIP was trained.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.hf_clip import load_clip

CARD = ModelCard(
    name="medsiglip",
    summary="MedSigLIP: SigLIP-400M at 448 pixels, tuned on medical images and texts",
    paper="Sellergren et al., MedGemma Technical Report, 2025",
    source="huggingface.co/google/medsiglip-448",
    licence="Health AI Developer Foundations terms of use",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr",),
    source_kind="hub",
    files=("model.safetensors",),
    gated=True,
    input_size=448,
    text_needs="SigLIP's tokenizer files in the same folder (spiece.model)",
    tested_with=("transformers 5.24",),
    openness="weights after accepting terms; training code and list of training images not public",
    notes=(
        "The published figures resize by TensorFlow's bilinear without anti-aliasing; here the "
        "folder's image processor is used (PIL bilinear, stretched), as in its hub example.",
        "Training sets beyond MIMIC-CXR are only named in its model card.",
        "It succeeds CXR Foundation, whose own page now calls that one legacy.",
    ),
)


def load(source: str | None, seed: int) -> Model:
    """MedSigLIP from a folder or the hub; `seed` is unused. Errors: see `load_clip`."""
    return load_clip(source, CARD, ("siglip",))
