"""MaCo: masked contrastive learning of images and reports (Huang et al., 2023).

Shapes: B batch, S = 224, P = 196 patches, D = 768, T texts, L = 100 tokens.
Source: SZUHvern/MaCo at 7f64d95. SOURCE is the released `maco.pth` with the repository's
`mimic_wordpiece.json` beside it. `pooled` and the feature map are those of
`g2dbench.pretrained.image.masked_vit`, as its classification and segmentation start.

Images and texts are compared by dot products in its zero-shot code and by cosines in its loss;
`match` and `locate` are the former, `embed_images` and `embed_texts` the latter. `match` is
its softmax over "There is {finding}. " and the mean of four negative prompts. `locate` weights
each patch by a learned weight, the same for every image, then smoothes as BioViL.

Differences from the original: it shuffles the sentences of a phrase without a seed, here they keep
their order; its grounding stretches images, here the input is that of its zero-shot
classification. The published code builds a pooler of width 384, which does not fit the released
file, whose pooler has 768 outputs (issue 4): the width is read from the file, and the activation
is the code's, a tanh.
"""

from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.masked_vit import MaskedViT
from g2dbench.pretrained.image.vit import make_vit, patch_grid
from g2dbench.pretrained.image.vit_encoder import read_source
from g2dbench.pretrained.layouts import rename_parts, strip_to, without
from g2dbench.pretrained.text.checkpoint_bert import bert_config
from g2dbench.pretrained.text.cxr_bert import smooth
from g2dbench.pretrained.text.text_batches import encode_in_batches
from g2dbench.pretrained.weights import State, digest, load_state

CARD = ModelCard(
    name="maco",
    summary="MaCo: ViT-B/16 and a small BERT, trained on masked images and their reports",
    paper="Huang et al., Enhancing Representation in Radiography-Reports Foundation Model: A "
    "Granular Alignment Algorithm Using Masked Contrastive Learning, 2023, arXiv 2309.05904",
    source="github.com/SZUHvern/MaCo (README: Google Drive, maco.pth)",
    licence="MIT",
    capabilities=("embeds", "features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    signature=("patch_embed.proj.weight", "pos_weight_img.weight", "img_mlp.weight"),
    files=("maco.pth",),
    input_size=224,
    text_needs="mimic_wordpiece.json of the repository, beside the weights",
    tested_with=("torch 2.14", "timm 1.0.31", "transformers 5.24", "tokenizers 0.23"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "The published code cannot load the released file: its text pooler has 768 outputs, the "
        "code builds 384 (issue 4); that it ends in a tanh is taken from the code.",
        "Its grounding shuffles the sentences of a phrase without a seed; here they keep their "
        "order.",
        "A sentence of three letters or fewer, or with '_', is dropped in grounding: 'PE' is an "
        "empty text.",
        "Its grounding stretches images to 224 pixels; here margins are cropped, as in its "
        "zero-shot classification.",
        "For SIIM the authors use two positive and five negative prompts of their own; here the "
        "ones of the other sets.",
        "Pooled features are an untrained layer norm of the mean of the patches, as its "
        "fine-tuning starts.",
    ),
)

VOCABULARY, MAX_TOKENS, TEMPERATURE = "mimic_wordpiece.json", 100, 0.02
POSITIVE = "There is {}. "
NEGATIVES = ("the lung is clear.", "There is no {}. ", "no {}. ", "no evidence of {}. ")
_PREPROCESS = Preprocess(size=224, fit="crop", mean=(0.4978,) * 3, std=(0.2449,) * 3)
_IMAGE_KEYS = ("patch_embed.", "cls_token", "pos_embed", "blocks.", "norm.")
_BERT = "bert_encoder.model.bert."
_UNUSED_KEYS = (
    r"^decoder_",
    r"^(mask_token|logit_scale|Tpar)$",
    r"^(pos_weight_text|pos_cat|WCE|bert_mlp|head)\.",
    r"^bert_encoder\.model\.cls\.",
)


class _Heads(nn.Module):
    """All but the image encoder: both projections, the weights of patches, and BERT."""

    def __init__(self, bert: BertModel, state: State) -> None:
        super().__init__()
        (width, hidden), patches = state["img_mlp.weight"].shape, state["pos_weight_img.weight"]
        self.img_mlp = nn.Linear(hidden, width)
        self.pos_weight_img = nn.Linear(patches.shape[1], 1)
        self.bert = bert
        self.pooler = nn.Linear(bert.config.hidden_size, len(state["pooler.weight"]))

    def patch_weights(self) -> Tensor:
        """(P,) of sum 1, the same for every image."""
        weights: Tensor = (self.pos_weight_img.weight[0] / TEMPERATURE).softmax(dim=0)
        return weights

    def encode_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(T, L) tokens and attention -> (T, D), not normalized."""
        states = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        return torch.tanh(self.pooler(states[:, 0]))


class MaCo(MaskedViT):
    """The released MaCo."""

    grounding = Grounding("nearest", None)

    def __init__(self, trunk: nn.Module, heads: _Heads, tokenizer: tokenizers.Tokenizer) -> None:
        super().__init__(CARD, _PREPROCESS, trunk)
        self.heads = heads
        self._tokenizer = tokenizer

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self._project_images(images), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        return F.normalize(self.project_texts(texts), dim=-1)

    def project_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), not normalized: the authors average prompts so."""
        return encode_in_batches(self._project_few, texts)

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): probability of the finding beside its negation.

        Source: ZeroShot/model_MaCo.py, ZeroShotClassificationHead; utils/prompts.py.
        """
        projected = self._project_images(images)
        names = [name.lower() for name in findings]
        positive = self.project_texts([POSITIVE.format(name) for name in names])
        negative = torch.stack(
            [self.project_texts([n.format(name) for name in names]) for n in NEGATIVES]
        )
        margins: Tensor = projected @ (positive - negative.mean(dim=0)).T
        return margins.sigmoid()

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, 14, 14): weighted and smoothed dot products.

        Source: Phrase Grounding.py, get_emb; eval/common.py.
        """
        grid = patch_grid(self.trunk, images).permute(0, 2, 3, 1)
        projected = self.heads.img_mlp(grid)
        weights = self.heads.patch_weights().view(1, *grid.shape[1:3], 1)
        found = self.project_texts([clean_phrase(text) for text in texts])
        return smooth(torch.einsum("bhwd,td->bthw", projected * weights, found))

    def _project_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): the projected mean of the patches after the trained norm."""
        projected: Tensor = self.heads.img_mlp(patch_grid(self.trunk, images).mean(dim=(2, 3)))
        return projected

    def _project_few(self, texts: Sequence[str]) -> Tensor:
        coded = self._tokenizer.encode_batch([f"[CLS] {text}" for text in texts])
        device = self.heads.pooler.weight.device
        tokens = torch.tensor([each.ids for each in coded], device=device)
        mask = torch.tensor([each.attention_mask for each in coded], device=device)
        return self.heads.encode_texts(tokens, mask)


def clean_phrase(text: str) -> str:
    """The sentences of a phrase in lower case, without those that the original drops."""
    sentences = [f"{part.strip()}. " for part in text.split(".")]
    kept = [s for s in sentences if len(s) > 5 and "_" not in s and s[0] != ","]
    return "".join(kept).lower()


def load(source: str | None, seed: int) -> Model:
    """MaCo from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit or a vocabulary that
    is missing.
    """
    state, file = read_source(CARD, source)
    state = without(strip_to(state, "patch_embed.proj.weight", file), _UNUSED_KEYS)
    state = rename_parts(state, {f"{_BERT}pooler.dense.": "pooler.", _BERT: "bert."})
    image = {key: value for key, value in state.items() if key.startswith(_IMAGE_KEYS)}
    trunk = make_vit(image, "", file, _PREPROCESS.size)
    load_state(trunk, image, file)
    rest = {key: value for key, value in state.items() if key not in image}
    heads = _build_heads(rest, file)
    load_state(heads, rest, file)
    model = MaCo(trunk, heads, _read_vocabulary(file, heads.bert.config.vocab_size))
    model.identity = Identity(CARD.name, digest(model))
    return model.eval()


def _build_heads(state: State, file: Path) -> _Heads:
    bert = bert_config(state, "bert.", file)
    try:
        return _Heads(BertModel(bert, add_pooling_layer=False), state)
    except (KeyError, ValueError, IndexError) as error:
        raise BadCheckpoint(f"{file} has no complete heads of MaCo; missing: {error}") from error


def _read_vocabulary(file: Path, size: int) -> tokenizers.Tokenizer:
    place = file.parent / VOCABULARY
    if not place.is_file():
        raise BadCheckpoint(
            f"{file} contains a text encoder but no vocabulary: copy {VOCABULARY} of "
            f"github.com/SZUHvern/MaCo to {place}"
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(place))
    except Exception as error:  # the Rust code raises a plain Exception for every broken file
        raise BadCheckpoint(f"{place} is not a readable vocabulary ({error})") from error
    if tokenizer.get_vocab_size() > size:
        raise BadCheckpoint(
            f"{place} has {tokenizer.get_vocab_size()} tokens, but {file} has embeddings of {size}"
        )
    tokenizer.enable_truncation(max_length=MAX_TOKENS)
    tokenizer.enable_padding(length=MAX_TOKENS)
    return tokenizer
