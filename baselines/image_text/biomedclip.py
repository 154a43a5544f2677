"""BiomedCLIP: a ViT-B/16 and BiomedBERT on figures of biomedical articles (Zhang et al., 2025).

Source: huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224; the reference is
the library OpenCLIP. SOURCE is that repository or its folder, with the text encoder's `config.json`
in it or in the hub's cache.
"""

from g2dbench.cards import ModelCard
from g2dbench.model import Model
from g2dbench.pretrained.open_clip import load_open_clip

CARD = ModelCard(
    name="biomedclip",
    summary="BiomedCLIP: ViT-B/16 at 224 pixels and BiomedBERT, on figures of PubMed Central",
    paper="Zhang et al., A Multimodal Biomedical Foundation Model Trained from Fifteen Million "
    "Image-Text Pairs, NEJM AI 2025",
    source="huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    licence="MIT",
    capabilities=("embeds", "features", "locates"),
    source_kind="hub",
    files=("open_clip_pytorch_model.bin",),
    input_size=224,
    text_needs="the tokenizer files in the folder, and config.json of "
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    tested_with=("open_clip 3.3",),
    openness="weights and licence public; training figures from the public PMC-OA",
    notes=(
        "Published at 224 pixels; RadHarmony runs it at 448 with resampled positions, which is "
        "another row.",
        "Trained on figures of articles, not on hospital archives: public chest X-ray sets appear "
        "there only as figures.",
    ),
)


def load(source: str | None, seed: int) -> Model:
    """BiomedCLIP from a folder or the hub; `seed` is unused. Errors: see `load_open_clip`."""
    return load_open_clip(source, CARD)
