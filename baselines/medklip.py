"""MedKLIP: findings as text queries to a decoder over image patches (Wu et al., ICCV 2023).

Shapes: B batch, S input side, P = (S / 16)^2 patches, Q queries, T texts, 75 entries of the book.
Source: MediaBrain-SJTU/MedKLIP at 8e60b03, Sample_zero-shot_Classification_CXR14 and
Sample_Zero-Shot_Grounding_RSNA. SOURCE is a folder that the user fills with three things:

    checkpoint.pth                   the published checkpoint, whatever its name
    observation explanation.json     the disease book, from the original repository (no licence)
    Bio_ClinicalBERT/                the hub repository emilyalsentzer/Bio_ClinicalBERT

Queries attend to each other, so the book is always decoded whole, as the original does. A text
that is no entry of the book is decoded as its 76th entry, one text at a time: no answer depends on
what else is asked. Not done here: the original equalises the histograms of RSNA's images first.
"""

import re
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
from g2dbench.pretrained.bert import absent, read_encoder, read_tokenizer
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.tokenizer import Tokenize
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights, strip_prefix

CARD = ModelCard(
    name="medklip",
    summary="MedKLIP: ResNet-50 to layer 3, and 75 explained findings as decoder queries",
    paper="Wu et al., MedKLIP: Medical Knowledge Enhanced Language-Image Pre-Training for X-ray "
    "Diagnosis, ICCV 2023",
    source="github.com/MediaBrain-SJTU/MedKLIP (checkpoints/README.md)",
    licence="none given",
    capabilities=("features", "locates", "matches"),
    trained_on=("mimic_cxr",),
    source_kind="folder",
    signature=("module.disease_embedding_layer.weight", "module.res_features.6.5.conv3.weight"),
)

BOOK_FILE = "observation explanation.json"
BERT_FOLDER = "Bio_ClinicalBERT"
ENTRIES = 75
MAX_PIECES = 64
WIDTH, HEADS, LAYERS, HIDDEN = 256, 4, 4, 1024
UNUSED = (r"^cl_fc\.",)
"""Head of the pre-training loss."""

ALIASES = {
    "pneumonia": "eumonia",
    "fibrosis": "tail abnorm obs",
    "infiltration": "infiltrate",
    "pleural thickening": "thicken",
    "pleural effusion": "effusion",
    "lung opacity": "opacity",
    "lung lesion": "lesion",
}
"""Names of findings -> entries of the book. "eumonia" is the book's own spelling; the next three
are the original's for ChestX-ray14 (its test.py), the last three ours, for CheXpert's names."""


class MedKLIP(Model):
    """Published MedKLIP: image maps, probabilities of named findings, and attention as location."""

    card = CARD
    preprocess = Preprocess(size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    channels = (64, 256, 512, 1024)
    strides = (2, 4, 8, 16)
    fixed_size = False
    grounding = Grounding("nearest", 0.008)
    """Raw attention above 0.008 (Sample_Zero-Shot_Grounding_RSNA/test.py); uniform is 0.0051."""

    def __init__(self, network: "_Network", bert: BertModel, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.network = network
        self.bert = bert
        self.tokenize = Tokenize(tokenizer, MAX_PIECES, "max_length")
        self.entries: dict[str, int] = {}
        self.register_buffer("book", torch.zeros(0, bert.config.hidden_size))

    @torch.no_grad()
    def learn_book(self, book: Mapping[str, str]) -> None:
        """Encode the disease book: entry -> explanation; the query's order is the book's."""
        self.entries = {_plain(name): index for index, name in enumerate(book)}
        self.book = self.encode(list(book.values()))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, 768): ClinicalBERT's last [CLS] state."""
        pieces, mask = (part.to(self.book.device) for part in self.tokenize(texts))
        first: Tensor = self.bert(input_ids=pieces, attention_mask=mask).last_hidden_state[:, 0]
        return first

    def entry(self, text: str) -> int | None:
        """The book's entry that a finding's name means; None where the text is a new query."""
        name = _plain(text)
        return self.entries.get(name, self.entries.get(ALIASES.get(name, name)))

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T findings -> (B, T) probabilities: softmax over absent and present."""
        return self._ask(images, findings)[0]

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, S / 16, S / 16): attention, mean of layers and heads."""
        grid = [side // self.strides[-1] for side in images.shape[-2:]]
        maps: Tensor = self._ask(images, texts)[1].unflatten(-1, grid)
        return maps

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the trunk's maps of stride 2, 4, 8 and 16; there is no fourth stage."""
        return self.network.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1024): the mean of the last map, before the two projections."""
        return self.network.pyramid(images)[-1].mean(dim=(2, 3))

    def _ask(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> probabilities (B, T), attention (B, T, P)."""
        patches = self.network.patches(images)
        known = self.network.decode(self.book, patches)
        answers = [self._answer(patches, text, known) for text in texts]
        probabilities, attention = (torch.stack(part, dim=1) for part in zip(*answers, strict=True))
        return probabilities, attention

    def _answer(
        self, patches: Tensor, text: str, known: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One text -> probability (B,), attention (B, P)."""
        entry = self.entry(text)
        if entry is not None:
            return known[0][:, entry], known[1][:, entry]
        asked = self.network.decode(torch.cat([self.book, self.encode([text])]), patches)
        return asked[0][:, -1], asked[1][:, -1]


class _Network(nn.Module):
    """What the checkpoint holds, under its names: trunk, projections, query decoder, classifier."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        trunk = resnet50(weights=None)
        stem = (trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        self.res_features = nn.Sequential(*stem, trunk.layer1, trunk.layer2, trunk.layer3)
        self.res_l1 = nn.Linear(1024, 1024)
        self.res_l2 = nn.Linear(1024, WIDTH)
        self.disease_embedding_layer = nn.Linear(text_width, WIDTH)
        layers = [_Layer() for _ in range(LAYERS)]
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(layers), "norm": nn.LayerNorm(WIDTH)})
        self.classifier = nn.Linear(WIDTH, 2)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> maps of stride 2, 4, 8, 16."""
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


class _Layer(nn.Module):
    """A pre-norm decoder layer that also returns where it looked; without dropout, never trained.

    Source: models/transformer.py of the original, `forward_pre`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.linear1 = nn.Linear(WIDTH, HIDDEN)
        self.linear2 = nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, 256), (B, P, 256) -> queries (B, Q, 256), attention (B, Q, P), mean of heads."""
        normed = self.norm1(queries)
        queries = queries + self.self_attn(normed, normed, normed, need_weights=False)[0]
        seen, attention = self.multihead_attn(self.norm2(queries), patches, patches)
        queries = queries + seen
        return queries + self.linear2(F.relu(self.linear1(self.norm3(queries)))), attention


def load(source: str | None, seed: int) -> MedKLIP:
    """MedKLIP from the folder described above, or from the checkpoint in it; `seed` is unused.

    Raises Misuse without a source or with several checkpoints, BadCheckpoint where a file is
    missing or does not fit.
    """
    if source is None:
        raise Misuse(
            f"medklip needs its weights: --model medklip:FOLDER, holding a checkpoint of "
            f"{CARD.source}, {BOOK_FILE!r} and {BERT_FOLDER}/"
        )
    checkpoint = _checkpoint(Path(source).expanduser())
    folder = _bert_folder(checkpoint.parent)
    bert = read_encoder(folder)
    network = _Network(bert.config.hidden_size)
    state = strip_prefix(find_state(read_weights(checkpoint), checkpoint), "module.")
    load_state(network, state, checkpoint, UNUSED)
    tokenizer = read_tokenizer(folder, bert.config.vocab_size)
    model = MedKLIP(network, bert, tokenizer).eval()
    model.learn_book(_book(checkpoint.with_name(BOOK_FILE)))
    model.identity = Identity("medklip", digest(model))
    return model


def _checkpoint(path: Path) -> Path:
    """The one .pth of a folder, or the file itself."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.pth"))
    if not found:
        raise BadCheckpoint(f"{path} holds no .pth file: put the checkpoint of {CARD.source} there")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise Misuse(f"{path} holds {names}: say which, --model medklip:{found[0]}")
    return found[0]


def _bert_folder(folder: Path) -> Path:
    """ClinicalBERT's folder beside the checkpoint; BadCheckpoint that lists what is absent."""
    bert = folder / BERT_FOLDER
    lacking = absent(folder, [(BOOK_FILE,)]) + absent(bert)
    if lacking:
        raise BadCheckpoint(
            f"medklip reads its text side from beside the checkpoint, and {folder} lacks "
            f"{', '.join(lacking)}: copy the book from {CARD.source} into it, and the files of "
            f"huggingface.co/emilyalsentzer/Bio_ClinicalBERT into {bert}"
        )
    return bert


def _book(file: Path) -> dict[str, str]:
    """The disease book: 75 entries with their explanations, in order."""
    book = read_json(file)
    if len(book) != ENTRIES or not all(isinstance(text, str) for text in book.values()):
        raise BadCheckpoint(
            f"{file} is not MedKLIP's disease book: wanted {ENTRIES} names with their explanations"
        )
    return book


def _plain(name: str) -> str:
    """A finding's name as the book is searched: lower case, spaces for underscores and hyphens."""
    return " ".join(re.sub(r"[_\-]", " ", name.lower()).split())
