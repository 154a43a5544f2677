"""Tokenizers: a WordPiece vocabulary trained on the training reports, or a published one.

Shapes: T texts, L tokens of the longest text (or `max_length`).
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
from g2dbench.pretrained.text.tokenizer_check import check_tokenizer

TOKENIZER_FILE = "tokenizer.json"
"""The file in which a run stores its tokenizer."""

SCRATCH = "scratch"
"""The value of `text.source` for a text encoder that is trained from scratch."""

DEFAULT_VOCAB_SIZE = 8192
"""The default of `text.vocab_size`."""

MAX_VOCAB_SIZE = 1 << 20

_SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_MIN_VOCAB_SIZE = len(_SPECIAL_TOKENS) + 1
_SIGLIP2_CLASSES = ("Gemma", "Siglip2")
"""Classes of SigLIP 2's tokenizers, for which settings switch special tokens on and off."""

Padding = Literal["longest", "max_length"]


@dataclass(frozen=True)
class Tokenize:
    """Texts -> token ids, truncated to `max_length`, padded to the longest or to `max_length`."""

    tokenizer: PreTrainedTokenizerFast
    max_length: int
    padding: Padding = "longest"

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """T texts -> tokens (T, L) and attention (T, L), int64 on the CPU."""
        try:
            coded = self.tokenizer(
                list(texts),
                padding=self.padding,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            )
        except BaseException as error:
            # A stranger's tokenizer may raise anything, also Rust's panic, which is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BadData(f"the tokenizer cannot encode {texts[0][:80]!r}, ...: {error}") from error
        return coded["input_ids"], coded["attention_mask"]


def make_tokenizer(text: Mapping[str, Any], reports: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of a recipe's `[model.text]` table.

    `source` "scratch" (the default) trains a vocabulary of `vocab_size` on the reports; any other
    source is a folder, a tokenizer.json or a hub id, and the reports are not used.
    """
    source = str(text.get("source", SCRATCH))
    if source != SCRATCH:
        return load_tokenizer(source)
    return train_wordpiece(reports, text.get("vocab_size", DEFAULT_VOCAB_SIZE))


def train_wordpiece(corpus: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer with about `vocab_size` tokens.

    The vocabulary contains at least every character. It depends only on the words of the corpus,
    not on their order. The library's trainer numbers the tokens "##x" in the order of a randomized
    hash map and breaks ties by number, so two runs would differ; giving it those tokens in advance
    makes it deterministic.
    """
    if not isinstance(vocab_size, int) or not _MIN_VOCAB_SIZE <= vocab_size <= MAX_VOCAB_SIZE:
        raise Misuse(
            f"text.vocab_size is {vocab_size!r}; it is a whole number from {_MIN_VOCAB_SIZE} to "
            f"{MAX_VOCAB_SIZE:,}"
        )
    texts = [text for text in corpus if text.strip()]
    if not texts:
        raise BadData("cannot train a tokenizer: no report of the training set contains text")
    untrained = _bert_tokenizer(models.WordPiece(unk_token=_SPECIAL_TOKENS["unk_token"]))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*_SPECIAL_TOKENS.values(), *_continuations(untrained, texts)],
        show_progress=False,
    )
    untrained.train_from_iterator(texts, trainer)
    vocabulary = untrained.get_vocab()
    tokenizer = _bert_tokenizer(
        models.WordPiece(vocabulary, unk_token=_SPECIAL_TOKENS["unk_token"])
    )
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS.values()))
    ends = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return _wrap(tokenizer)


def _bert_tokenizer(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _continuations(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """The tokens "##x" of every character that can occur inside a word, sorted."""
    characters: set[str] = set()
    for text in texts:
        characters.update(tokenizer.normalizer.normalize_str(text))
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    return [f"##{char}" for char in sorted(characters) if len(split(f"a{char}a")) == 1]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Write the folder's tokenizer.json; `load_tokenizer(folder)` reads it."""
    file = folder / TOKENIZER_FILE
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()  # padding and truncation are settings of the last call, not stored
    copy.no_truncation()
    copy.save(str(file))
    return file


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """A tokenizer from a tokenizer.json, a folder with one, or a model's folder or hub id."""
    path = Path(source)
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if file.is_file():
        return _read(file)
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())  # the hub's error messages have several lines
        raise BadData(
            f"no tokenizer at {str(source)!r}: it is neither a tokenizer.json nor a folder with "
            f"one, and the hub and its local cache have no such model ({why})"
        ) from error


def apply_special_token_settings(tokenizer: Any, folder: Path) -> None:
    """Add the special tokens of a Gemma tokenizer as in its folder's tokenizer_config.json.

    transformers 4 used `add_bos_token` and `add_eos_token`; version 5 uses only tokenizer.json, so
    that a folder whose two files disagree would give other embeddings than the published model.
    """
    file = folder / "tokenizer_config.json"
    settings = read_json(file) if file.is_file() else {}
    if not str(settings.get("tokenizer_class", "")).startswith(_SIGLIP2_CLASSES):
        return
    ids = tokenizer("a")["input_ids"]
    adds = {"bos": ids[0] == tokenizer.bos_token_id, "eos": ids[-1] == tokenizer.eos_token_id}
    wanted = {end: settings.get(f"add_{end}_token", added) for end, added in adds.items()}
    if wanted != adds:
        tokenizer.add_bos_token, tokenizer.add_eos_token = wanted["bos"], wanted["eos"]


def _read(file: Path) -> PreTrainedTokenizerFast:
    check_tokenizer(file)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust code raises a plain Exception for every broken file
        raise BadData(f"{file} is not a readable tokenizer: {error}") from error
    missing = [token for token in _SPECIAL_TOKENS.values() if tokenizer.token_to_id(token) is None]
    if missing:
        raise BadData(f"{file} is not a BERT tokenizer: its vocabulary has no {', '.join(missing)}")
    return _wrap(tokenizer)


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL_TOKENS)
