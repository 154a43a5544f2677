"""A published BERT from a folder: config.json, weights and vocabulary, read as untrusted files.

Used by wrappers whose text encoder is a BERT (CXR-BERT, Bio_ClinicalBERT). Nothing is downloaded.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizerFast

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.weights import State, find_state, load_state, read_weights, strip_prefix

CONFIG_FILE = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
FILES = ((CONFIG_FILE,), WEIGHTS, ("vocab.txt", "tokenizer.json"))
"""The files that a folder must contain: one of each group."""

UNUSED_KEYS = (r"^cls\.", r"^pooler\.")
"""Keys that no embedding needs: the masked-language-modeling head and the pooler."""

Encoder = TypeVar("Encoder", bound=nn.Module)


def missing_files(folder: Path, files: Sequence[Sequence[str]] = FILES) -> list[str]:
    """The groups of which `folder` contains no file, each written as "a or b"."""
    return [" or ".join(g) for g in files if not any((folder / name).is_file() for name in g)]


def weights_file(folder: Path) -> Path:
    """The folder's weights file, safetensors first; BadCheckpoint where there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise BadCheckpoint(
        f"{folder} contains no {' or '.join(WEIGHTS)}: copy the model's files into it"
    )


def build_from_config(folder: Path, make: Callable[[BertConfig], Encoder]) -> Encoder:
    """The model that `make` builds from the folder's configuration, with random weights.

    The model type in the file is ignored, because some types exist only as code on the hub. Raises
    BadCheckpoint where the configuration is unreadable or does not describe a BERT.
    """
    file = folder / CONFIG_FILE
    try:
        return make(BertConfig(**read_json(file)))
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise BadCheckpoint(f"{file} does not describe a BERT ({error}); copy it again") from error


def read_encoder(folder: Path) -> BertModel:
    """The folder's BERT without pooler; keys may have the prefix `bert.` of a model with a head.

    Raises BadCheckpoint where configuration or weights are unreadable or do not match each other.
    """
    file = weights_file(folder)
    state = strip_prefix(find_state(read_weights(file), file), "bert.")
    # Early versions of the library named the weight and bias of a LayerNorm gamma and beta.
    renamed = {k.replace(".gamma", ".weight").replace(".beta", ".bias"): state[k] for k in state}
    return fill_encoder(folder, renamed, file)


def fill_encoder(folder: Path, state: State, file: Path) -> BertModel:
    """A BERT without pooler of the folder's configuration, with the weights of a checkpoint.

    file: of the weights, for errors. Raises as `read_encoder`.
    """
    encoder = build_from_config(folder, lambda config: BertModel(config, add_pooling_layer=False))
    load_state(encoder, state, file, UNUSED_KEYS)
    return encoder


def read_tokenizer(folder: Path, size: int) -> BertTokenizerFast:
    """The folder's WordPiece tokenizer, always lower-casing, for an encoder with `size` embeddings.

    Raises BadCheckpoint where the vocabulary is unreadable or larger than `size`.
    """
    try:
        tokenizer = BertTokenizerFast.from_pretrained(
            folder, do_lower_case=True, local_files_only=True
        )
    except Exception as error:  # the Rust code raises a plain Exception for every broken file
        raise BadCheckpoint(f"{folder} contains no readable vocabulary ({error})") from error
    if len(tokenizer) > size:
        raise BadCheckpoint(
            f"{folder} mixes files of two models: its vocabulary has {len(tokenizer)} tokens, its "
            f"weights have {size}"
        )
    return tokenizer
