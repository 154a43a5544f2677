"""MedCLIP: a ResNet-50 or Swin-T and ClinicalBERT, matched by labels (Wang et al., EMNLP 2022).

Shapes: B batch, S = 224, T texts, D = 512. Source: RyanWangZf/MedCLIP at 9c3396f. SOURCE is a
folder in which the user puts two things, or the checkpoint in it:

    pytorch_model.bin        from medclip-pretrained.zip or medclip-vit-pretrained.zip
    Bio_ClinicalBERT/        config.json and the vocabulary of emilyalsentzer/Bio_ClinicalBERT

A text is the mean over its tokens, padding included, of three layers. The original pads to the
longest text of a call, so that an embedding depends on its neighbors; here every text is encoded
alone, without padding. Difference from the original: an image below 224 pixels is enlarged; the
original pads it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.checkpoint_folder import find_checkpoint, text_folder
from g2dbench.pretrained.layouts import part_of, unwrapped
from g2dbench.pretrained.text import bert
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.towers import ResNetTower, SwinTower, modern_swin
from g2dbench.pretrained.weights import State, digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="medclip",
    summary="MedCLIP: ResNet-50 or Swin-T and ClinicalBERT, matched by the labels of reports",
    paper="Wang et al., MedCLIP: Contrastive Learning from Unpaired Medical Images and Text, "
    "EMNLP 2022",
    source="github.com/RyanWangZf/MedCLIP (medclip-pretrained.zip, medclip-vit-pretrained.zip)",
    licence="none given (setup.py says BSD)",
    capabilities=("embeds", "features"),
    trained_on=("mimic_cxr", "chexpert"),
    source_kind="folder",
    signature=("text_model.projection_head.weight", "logit_scale"),
    files=("pytorch_model.bin",),
    input_size=224,
    text_needs="Bio_ClinicalBERT/ with config.json and vocab.txt beside the checkpoint",
    tested_with=("transformers 5.24", "torch 2.14"),
    openness="weights and code public; no licence file",
    notes=(
        "In the original, the embedding of a text depends on the other texts of its call.",
        "Its README's example gives [0.2560, 0.6394]; users get [0.1729, 0.3899] (issues 27, 29).",
        "A re-training reached .43 accuracy on RSNA and .45 on COVID (issue 19).",
        "The original reads the address of its weights at run time, so the files can change.",
    ),
)

BERT_FOLDER, BERT_HUB = "Bio_ClinicalBERT", "emilyalsentzer/Bio_ClinicalBERT"
MAX_TOKENS, SIDE = 77, 224
LAYERS = (1, 2, -1)
"""Hidden states whose mean is a text's feature; 0 would be the embeddings."""


class MedCLIP(Model):
    """The published MedCLIP: global embeddings and feature maps."""

    card = CARD
    preprocess = Preprocess(
        size=SIDE, fit="pad", mean=(0.5862785803043838,) * 3, std=(0.27950088968644304,) * 3,
        resampling="bicubic",
    )  # fmt: skip

    def __init__(
        self, image: ResNetTower | SwinTower, text: BertModel, heads: dict[str, nn.Module]
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.heads = nn.ModuleDict(heads)
        self.channels, self.strides = image.channels, image.strides
        self.fixed_size = image.fixed_size
        self.tokenize: Tokenize

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): the mean of the last map, before the projection."""
        return self.image.pooled(images)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the feature pyramid of the ResNet or Swin."""
        return self.image.pyramid(images)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1."""
        return F.normalize(self.heads["image"](self.pooled(images)), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; each text is encoded alone."""
        return torch.cat([self._embed_one(text) for text in texts])

    def _embed_one(self, text: str) -> Tensor:
        tokens, mask = (part.to(self.text.device) for part in self.tokenize([text]))
        states = self.text(
            input_ids=tokens, attention_mask=mask, output_hidden_states=True
        ).hidden_states
        mean = torch.stack([states[layer] for layer in LAYERS]).mean(dim=(0, 2))
        return F.normalize(self.heads["text"](mean), dim=-1)


def load(source: str | None, seed: int) -> Model:
    """MedCLIP from the folder described above, or from the checkpoint in it; `seed` is unused.

    Raises Misuse without a source or with several checkpoints, BadCheckpoint where a file is
    missing or does not fit.
    """
    file = find_checkpoint(source, CARD, BERT_FOLDER)
    state = unwrapped(find_state(read_weights(file), file))
    folder = text_folder(file, CARD, BERT_FOLDER, BERT_HUB)
    image, head = _read_image(state, file)
    text = bert.fill_encoder(folder, part_of(state, "text_model.model."), file)
    heads = {"image": head, "text": _linear(state, "text_model.projection_head.weight", file)}
    model = MedCLIP(image, text, heads)
    limit = min(MAX_TOKENS, text.config.max_position_embeddings)
    model.tokenize = Tokenize(bert.read_tokenizer(folder, text.config.vocab_size), limit)
    model.identity = Identity(f"{CARD.name}:{file.parent.name}.{file.stem}", digest(model))
    return model.eval()


def _read_image(state: State, file: Any) -> tuple[ResNetTower | SwinTower, nn.Module]:
    """The tower and its projection: the ResNet's `fc`, or a head beside the Swin."""
    own = part_of(state, "vision_model.model.")
    if "conv1.weight" in own:
        tower = ResNetTower()
        load_state(tower.network, own, file, (r"^fc\.",))
        return tower, _linear(state, "vision_model.model.fc.weight", file)
    if "embeddings.patch_embeddings.projection.weight" not in own:
        raise BadCheckpoint(f"{file} is not MedCLIP: it has no vision_model with ResNet or Swin")
    swin = modern_swin(own)
    return SwinTower.load(swin, SIDE, file), _linear(
        state, "vision_model.projection_head.weight", file
    )


def _linear(state: State, key: str, file: Any) -> nn.Module:
    """The projection without bias with these weights; BadCheckpoint where they are missing."""
    if key not in state:
        raise BadCheckpoint(f"{file} is not MedCLIP: it has no {key}")
    rows, columns = state[key].shape
    layer = nn.Linear(columns, rows, bias=False)
    load_state(layer, {"weight": state[key]}, file)
    return layer
