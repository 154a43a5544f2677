"""MedKLIP: a decoder with findings as text queries over image patches (Wu et al., ICCV 2023).

Shapes: B batch, S input side, P = (S / 16)^2 patches, Q queries, T texts; the disease book has 75
entries.
Source: MediaBrain-SJTU/MedKLIP at 8e60b03, Sample_zero-shot_Classification_CXR14 and
Sample_Zero-Shot_Grounding_RSNA. SOURCE is a folder in which the user puts three things:

    checkpoint.pth                   the published checkpoint, under any name
    observation explanation.json     the disease book, from the original repository (no license)
    Bio_ClinicalBERT/                the hub repository emilyalsentzer/Bio_ClinicalBERT

Queries attend to each other, so all entries of the disease book are always decoded together, as in
the original. A text that is not an entry of the book is decoded as a 76th entry, one text at a
time, so that a prediction does not depend on the other texts. Difference from the original: it
first equalizes the histograms of RSNA's images, which is not done here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50
from transformers import BertModel, BertTokenizerFast

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.model import Grounding, Identity, Model
from g2dbench.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from g2dbench.pretrained.disease_book import (
    ALIASES,
    BERT_FOLDER,
    BOOK_FILE,
    find_bert_folder,
    plain_name,
    read_book,
)
from g2dbench.pretrained.query_decoder import QueryLayer
from g2dbench.pretrained.text.bert import read_encoder, read_tokenizer
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights, strip_prefix

CARD = ModelCard(
    name="medklip",
    summary="MedKLIP: ResNet-50 to layer 3, and 75 findings with explanations as decoder queries",
    paper="Wu et al., MedKLIP: Medical Knowledge Enhanced Language-Image Pre-Training for X-ray "
    "Diagnosis, ICCV 2023",
    source="github.com/MediaBrain-SJTU/MedKLIP (checkpoints/README.md)",
    licence="none given",
    capabilities=("features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    source_kind="folder",
    files=("checkpoint_final.pth",),
    input_size=224,
    text_needs="the folder Bio_ClinicalBERT and `observation explanation.json` beside the weights",
    openness="weights and code are public, without a license file",
    notes=(
        "Zero-shot AUC on NIH ChestX-ray14: .7676 published; .7233 with the released file by two "
        "users (MedKLIP issues 12 and 17).",
    ),
    signature=("module.disease_embedding_layer.weight", "module.res_features.6.5.conv3.weight"),
)

MAX_TOKENS = 64
WIDTH, HEADS, LAYERS, HIDDEN = 256, 4, 4, 1024
UNUSED_KEYS = (r"^cl_fc\.",)
"""Keys of the head of the pre-training loss."""


class MedKLIP(Model):
    """The published MedKLIP: feature maps, probabilities of findings, and attention as a map."""

    card = CARD
    preprocess = Preprocess(size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    channels = (64, 256, 512, 1024)
    strides = (2, 4, 8, 16)
    fixed_size = False
    grounding = Grounding("nearest", 0.008)
    """Threshold on the attention (Sample_Zero-Shot_Grounding_RSNA/test.py); uniform is 0.0051."""

    def __init__(self, network: "_Network", bert: BertModel, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.network = network
        self.bert = bert
        self.tokenize = Tokenize(tokenizer, MAX_TOKENS, "max_length")
        self.entries: dict[str, int] = {}
        self.register_buffer("book", torch.zeros(0, bert.config.hidden_size))

    @torch.no_grad()
    def encode_book(self, book: Mapping[str, str]) -> None:
        """Encode the disease book (entry -> explanation); queries keep its order."""
        self.entries = {plain_name(name): index for index, name in enumerate(book)}
        self.book = self.encode(list(book.values()))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, 768): the [CLS] state of ClinicalBERT's last layer."""
        tokens, mask = (part.to(self.book.device) for part in self.tokenize(texts))
        first: Tensor = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0]
        return first

    def entry(self, text: str) -> int | None:
        """Index of a finding's entry in the disease book; None for any other text."""
        name = plain_name(text)
        return self.entries.get(name, self.entries.get(ALIASES.get(name, name)))

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T): the probability of "present" of two classes."""
        return self._decode_texts(images, findings)[0]

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, S / 16, S / 16): mean attention of layers and heads."""
        grid = [side // self.strides[-1] for side in images.shape[-2:]]
        maps: Tensor = self._decode_texts(images, texts)[1].unflatten(-1, grid)
        return maps

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the ResNet's maps of strides 2, 4, 8 and 16; it has no layer 4."""
        return self.network.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1024): the mean of the last map, before the two projections."""
        return self.network.pyramid(images)[-1].mean(dim=(2, 3))

    def _decode_texts(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S), T texts -> probabilities (B, T), attention (B, T, P)."""
        patches = self.network.patches(images)
        book_output = self.network.decode(self.book, patches)
        outputs = [self._decode_text(patches, text, book_output) for text in texts]
        probabilities, attention = (torch.stack(part, dim=1) for part in zip(*outputs, strict=True))
        return probabilities, attention

    def _decode_text(
        self, patches: Tensor, text: str, book_output: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One text -> probability (B,), attention (B, P); `book_output` is that of all entries."""
        entry = self.entry(text)
        if entry is not None:
            return book_output[0][:, entry], book_output[1][:, entry]
        queries = torch.cat([self.book, self.encode([text])])
        probabilities, attention = self.network.decode(queries, patches)
        return probabilities[:, -1], attention[:, -1]


class _Network(nn.Module):
    """ResNet, projections, query decoder and classifier, with the key names of the checkpoint."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        trunk = resnet50(weights=None)
        stem = (trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.res_features = nn.Sequential(*stem, trunk.layer1, trunk.layer2, trunk.layer3)
        self.res_l1 = nn.Linear(1024, 1024)
        self.res_l2 = nn.Linear(1024, WIDTH)
        self.disease_embedding_layer = nn.Linear(text_width, WIDTH)
        layers = [QueryLayer(WIDTH, HEADS, HIDDEN) for _ in range(LAYERS)]
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(layers), "norm": nn.LayerNorm(WIDTH)})
        self.classifier = nn.Linear(WIDTH, 2)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> feature maps of strides 2, 4, 8 and 16."""
        maps = [self.res_features[:3](images)]
        maps.append(self.res_features[3:5](maps[0]))
        for stage in self.res_features[5:]:
            maps.append(stage(maps[-1]))
        return maps

    def patches(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P, 256) projected patches."""
        rows = self.pyramid(images)[-1].flatten(2).transpose(1, 2)
        projected: Tensor = self.res_l2(F.relu(self.res_l1(rows)))
        return projected

    def decode(self, book: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(Q, 768) texts, (B, P, 256) -> probabilities (B, Q), mean attention (B, Q, P)."""
        queries = self.disease_embedding_layer(book).expand(len(patches), -1, -1)
        attention = []
        for layer in self.decoder["layers"].children():
            queries, weights = layer(queries, patches)
            attention.append(weights)
        logits = self.classifier(self.decoder["norm"](queries))
        return logits.softmax(dim=-1)[..., 1], torch.stack(attention).mean(dim=0)


def load(source: str | None, seed: int) -> MedKLIP:
    """MedKLIP from the folder described above, or from the checkpoint in it; `seed` is unused.

    Raises Misuse without a source or with several checkpoints, BadCheckpoint where a file is
    missing or does not fit.
    """
    if source is None:
        raise Misuse(
            f"medklip needs its weights: --model medklip:FOLDER, FOLDER with a checkpoint of "
            f"{CARD.source}, {BOOK_FILE!r} and {BERT_FOLDER}/"
        )
    checkpoint = _find_checkpoint(Path(source).expanduser())
    folder = find_bert_folder(checkpoint.parent, CARD)
    bert = read_encoder(folder)
    network = _Network(bert.config.hidden_size)
    state = strip_prefix(find_state(read_weights(checkpoint), checkpoint), "module.")
    load_state(network, state, checkpoint, UNUSED_KEYS)
    tokenizer = read_tokenizer(folder, bert.config.vocab_size)
    model = MedKLIP(network, bert, tokenizer).eval()
    model.encode_book(read_book(checkpoint.with_name(BOOK_FILE)))
    model.identity = Identity("medklip", digest(model))
    return model


def _find_checkpoint(path: Path) -> Path:
    """The single .pth file of a folder, or the given file itself."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.pth"))
    if not found:
        raise BadCheckpoint(
            f"{path} contains no .pth file: put the checkpoint of {CARD.source} there"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise Misuse(f"{path} contains {names}: choose one of them, as --model medklip:{found[0]}")
    return found[0]
