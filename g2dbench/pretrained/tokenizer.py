"""Tokenizers: a WordPiece vocabulary trained on the reports at hand, or a published one.

Shapes: T texts, L tokens of the longest of them (or `max_length`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from g2dbench.errors import BadData, Misuse
from g2dbench.pretrained.hub import read_json

FILE = "tokenizer.json"
"""The name under which a run keeps its tokenizer."""

SCRATCH = "scratch"
"""`text.source` of a text encoder that starts from nothing."""

VOCABULARY = 8192
"""`text.vocab_size` where a recipe does not say."""

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_SMALLEST = len(_SPECIAL) + 1
_FRAMED_BY_SETTINGS = ("Gemma", "Siglip2")
"""Tokenizers of SigLIP 2, whose special tokens are switched on and off by settings."""

Padding = Literal["longest", "max_length"]


@dataclass(frozen=True)
class Tokenize:
    """Texts to token ids, truncated to `max_length`, padded to the longest or to `max_length`."""

    tokenizer: PreTrainedTokenizerFast
    max_length: int
    padding: Padding = "longest"

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """T texts -> tokens (T, L) and attention (T, L), int64 on the CPU."""
        coded = self.tokenizer(
            list(texts),
            padding=self.padding,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        )
        return coded["input_ids"], coded["attention_mask"]


def make_tokenizer(text: Mapping[str, Any], reports: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer that a recipe's `[model.text]` table asks for.

    `source` "scratch" (the default) trains `vocab_size` word pieces on the reports; any other
    source is a folder, a tokenizer.json or a hub id, and the reports are not read.
    """
    source = str(text.get("source", SCRATCH))
    if source != SCRATCH:
        return load_tokenizer(source)
    return train_wordpiece(reports, text.get("vocab_size", VOCABULARY))


def train_wordpiece(corpus: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer of about `vocab_size` pieces (never below alphabet).

    The words of the corpus alone decide, not their order. The library's trainer numbers the
    pieces "##x" in the order of a randomised hash map and breaks ties by number, so two runs
    differ; naming those pieces beforehand makes it deterministic.
    """
    if not isinstance(vocab_size, int) or vocab_size < _SMALLEST:
        raise Misuse(f"text.vocab_size is {vocab_size!r}; it is a whole number from {_SMALLEST}")
    texts = [text for text in corpus if text.strip()]
    if not texts:
        raise BadData("a tokenizer was to be trained, but the training set has no report text")
    blank = _bert(models.WordPiece(unk_token=_SPECIAL["unk_token"]))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*_SPECIAL.values(), *_continuations(blank, texts)],
        show_progress=False,
    )
    blank.train_from_iterator(texts, trainer)
    vocabulary = blank.get_vocab()
    tokenizer = _bert(models.WordPiece(vocabulary, unk_token=_SPECIAL["unk_token"]))
    tokenizer.add_special_tokens(list(_SPECIAL.values()))
    ends = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return _wrap(tokenizer)


def _bert(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _continuations(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """The pieces "##x" of every character that can stand inside a word, sorted."""
    characters: set[str] = set()
    for text in texts:
        characters.update(tokenizer.normalizer.normalize_str(text))
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    return [f"##{sign}" for sign in sorted(characters) if len(split(f"a{sign}a")) == 1]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Write the folder's tokenizer.json; `load_tokenizer(folder)` gives it back."""
    file = folder / FILE
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()  # what the last call happened to set is no part of the tokenizer
    plain.no_truncation()
    plain.save(str(file))
    return file


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """A tokenizer from a tokenizer.json, a folder that holds one, or a model's folder or hub id."""
    path = Path(source)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return _read(file)
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())  # the hub's errors run over several lines
        raise BadData(
            f"no tokenizer at {str(source)!r}: it is no tokenizer.json, no folder with one, "
            f"and no model that the hub or its local cache could give ({why})"
        ) from error


def frame_texts(tokenizer: Any, folder: Path) -> None:
    """Make a Gemma tokenizer begin and end texts as its folder's tokenizer_config.json says.

    transformers 4 obeyed `add_bos_token` and `add_eos_token`; version 5 obeys tokenizer.json alone,
    so that a folder whose two files disagree would embed otherwise than when it was published.
    """
    file = folder / "tokenizer_config.json"
    settings = read_json(file) if file.is_file() else {}
    if not str(settings.get("tokenizer_class", "")).startswith(_FRAMED_BY_SETTINGS):
        return
    ids = tokenizer("a")["input_ids"]
    adds = {"bos": ids[0] == tokenizer.bos_token_id, "eos": ids[-1] == tokenizer.eos_token_id}
    wanted = {end: settings.get(f"add_{end}_token", added) for end, added in adds.items()}
    if wanted != adds:
        tokenizer.add_bos_token, tokenizer.add_eos_token = wanted["bos"], wanted["eos"]


def _read(file: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust side raises bare Exception for every broken file
        raise BadData(f"{file} is no readable tokenizer: {error}") from error
    missing = [token for token in _SPECIAL.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise BadData(f"{file} is no BERT tokenizer: its vocabulary lacks {', '.join(missing)}")
    return _wrap(tokenizer)


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)
