"""UniMed-CLIP: CLIP's ViT and BiomedBERT on six kinds of medical images (Khattak et al., 2024).

Shapes: T texts, L = 256 tokens, D = 512 or 768. Source: mbzuai-oryx/UniMed-CLIP at 6f09177.
SOURCE is one of the three released files, with the vocabulary of its text encoder beside it or in
the hub's cache. Sizes of both encoders are read from the weights: the original takes the name of
the text encoder from the user and loads without strictness, so that a wrong name leaves it random.

A text is the projected [CLS] state before the pooler, padded to 256 tokens. The authors' zero-shot
classification averages normalized prompts of a class and compares cosines, as ours. They publish no
grounding: `locate` is that of `open_clip`.
"""

from collections.abc import Sequence
from pathlib import Path

import open_clip
from open_clip.tokenizer import get_clean_fn
from torch import Tensor, nn
from transformers import BertModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Identity, Model
from g2dbench.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from g2dbench.pretrained.image.vit_encoder import read_source
from g2dbench.pretrained.layouts import layers_in, rename_parts, strip_to
from g2dbench.pretrained.open_clip import OpenCLIP
from g2dbench.pretrained.text.checkpoint_bert import bert_config, find_tokenizer
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import State, digest, load_state

CARD = ModelCard(
    name="unimed-clip",
    summary="UniMed-CLIP: ViT-B/16 or ViT-L/14 and BiomedBERT, on six kinds of medical images",
    paper="Khattak et al., UniMed-CLIP: Towards a Unified Image-Text Pretraining Paradigm for "
    "Diverse Medical Imaging Modalities, 2024, arXiv 2412.10372",
    source="github.com/mbzuai-oryx/UniMed-CLIP (README: SharePoint)",
    licence="CC BY-NC 4.0",
    capabilities=("embeds", "features", "locates"),
    trained_on=("mimic_cxr", "chexpert", "nih_cxr14", "open_i"),
    signature=(
        "visual.class_embedding",
        "text_encoder.transformer.embeddings.word_embeddings.weight",
        "text_encoder.proj.2.weight",
    ),
    files=(
        "unimed_clip_vit_b16.pt",
        "unimed_clip_vit_l14_large_text_encoder.pt",
        "unimed_clip_vit_l14_base_text_encoder.pt",
    ),
    noncommercial=True,
    text_needs="vocab.txt of huggingface.co/microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract "
    "(or -large-)",
    tested_with=("open_clip 3.3", "transformers 5.24", "torch 2.14"),
    openness="weights, code, licence and data set public; MIMIC-CXR by agreement",
    notes=(
        "Its ViT-B/16 takes 224 pixels, both ViT-L/14 take 336.",
        "Trained on images of CheXpert, MIMIC-CXR, Open-i and ChestX-ray8 (those of ChestX-ray14), "
        "with captions that a language model wrote from labels: zero-shot on them is not clean.",
        "The README's mean zero-shot figure on X-rays is 68.78; its evaluation needs the authors' "
        "copies of the test sets.",
        "The original also runs with a file of MetaCLIP, from which it was initialized, and leaves "
        "the text encoder at BiomedBERT's weights (issue 9); such a file is refused here.",
        "The authors publish no grounding; the map is the cosine of each patch and the text.",
    ),
)

MAX_TOKENS = 256
BERTS = {
    768: "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    1024: "microsoft/BiomedNLP-BiomedBERT-large-uncased-abstract",
}
"""Width of the text encoder -> the hub's id of its vocabulary."""
_BERT = "text.transformer."
_UNUSED_KEYS = (
    r"^(token_embedding|transformer|ln_final)\.",
    r"^(positional_embedding|text_projection)$",
    r"^text\.transformer\.pooler\.",
)
_HEAD_WIDTH = 64


class _TextTower(nn.Module):
    """BERT's [CLS] state through two layers; key names as in OpenCLIP's text tower."""

    def __init__(self, bert: BertModel, state: State) -> None:
        super().__init__()
        first, last = state["text.proj.0.weight"], state["text.proj.2.weight"]
        self.transformer = bert
        self.proj = nn.Sequential(
            nn.Linear(first.shape[1], len(first), bias=False),
            nn.GELU(),
            nn.Linear(last.shape[1], len(last), bias=False),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, L) tokens, 0 where a text has ended -> (T, D), not normalized."""
        mask = (tokens != 0).long()
        states = self.transformer(input_ids=tokens, attention_mask=mask).last_hidden_state
        projected: Tensor = self.proj(states[:, 0])
        return projected


class _Tokenizer:
    """Texts -> (T, 256) tokens, after the original's cleaning of white space and HTML."""

    def __init__(self, tokenize: Tokenize) -> None:
        self.tokenize, self.clean = tokenize, get_clean_fn("whitespace")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self.tokenize([self.clean(text) for text in texts])[0]


def load(source: str | None, seed: int) -> Model:
    """UniMed-CLIP from one of its files; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is not found.
    """
    state, file = read_source(CARD, source)
    state = strip_to(state, "visual.class_embedding", file)
    state = rename_parts(state, {"text_encoder.": "text."})
    clip = _build(state, file)
    load_state(clip, state, file, _UNUSED_KEYS)
    width, vocabulary = state[f"{_BERT}embeddings.word_embeddings.weight"].shape[::-1]
    bert = find_tokenizer(file, BERTS.get(width, BERTS[768]), vocabulary)
    limit = min(MAX_TOKENS, clip.text.transformer.config.max_position_embeddings)
    side = clip.visual.image_size[0]
    preprocess = Preprocess(
        size=side, fit="crop", mean=CLIP_MEAN, std=CLIP_STD, resampling="bicubic"
    )
    tokenizer = _Tokenizer(Tokenize(bert, limit, "max_length"))
    model = OpenCLIP(CARD, clip.eval(), tokenizer, preprocess)
    model.identity = Identity(f"{CARD.name}:{file.name}", digest(model))
    return model.eval()


def _build(state: State, file: Path) -> open_clip.CustomTextCLIP:
    """OpenCLIP's module with the sizes of the weights, in place of the original's fork of it."""
    try:
        patch = state["visual.conv1.weight"]
        positions, depth = state["visual.positional_embedding"], state["visual.proj"].shape[1]
        vision = {
            "width": len(patch),
            "layers": layers_in(state, r"visual\.transformer\.resblocks\.(\d+)\."),
            "head_width": _HEAD_WIDTH,
            "patch_size": patch.shape[-1],
            "image_size": patch.shape[-1] * round((len(positions) - 1) ** 0.5),
        }
        text = _TextTower(
            BertModel(bert_config(state, _BERT, file), add_pooling_layer=False), state
        )
    except (KeyError, IndexError) as error:
        raise BadCheckpoint(f"{file} is not UniMed-CLIP (missing or malformed: {error})") from error
    clip = open_clip.CustomTextCLIP(depth, vision, _NO_TEXT, quick_gelu=True)
    clip.text = text
    return clip


_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 64, "heads": 1, "layers": 1}
"""A text tower that is replaced."""
