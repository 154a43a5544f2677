"""A published BERT as a folder: config.json, weights and word pieces, read with distrust.

Shared by the wrappers whose text side is a BERT (CXR-BERT, Bio_ClinicalBERT); nothing is fetched.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizerFast

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.hub import read_json
from g2dbench.pretrained.weights import find_state, load_state, read_weights, strip_prefix

CONFIG_FILE = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
FILES = ((CONFIG_FILE,), WEIGHTS, ("vocab.txt", "tokenizer.json"))
"""What a folder holds: one file of each group."""

UNUSED = (r"^cls\.", r"^pooler\.")
"""Keys of an encoder's file that no embedding reads: the masked-word head and the pooler."""

Encoder = TypeVar("Encoder", bound=nn.Module)


def absent(folder: Path, files: Sequence[Sequence[str]] = FILES) -> list[str]:
    """The groups of which `folder` holds no file, each as "a or b"."""
    return [" or ".join(g) for g in files if not any((folder / name).is_file() for name in g)]


def weights_file(folder: Path) -> Path:
    """The folder's weights, safetensors first; BadCheckpoint where it holds none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise BadCheckpoint(f"{folder} lacks {' or '.join(WEIGHTS)}: copy the model's files into it")


def build(folder: Path, make: Callable[[BertConfig], Encoder]) -> Encoder:
    """What `make` builds of the folder's configuration, its weights still drawn at random.

    The file's model type is not asked: some exist only as code on the hub. Raises BadCheckpoint
    where the configuration is unreadable or describes no BERT.
    """
    file = folder / CONFIG_FILE
    try:
        return make(BertConfig(**read_json(file)))
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise BadCheckpoint(f"{file} describes no BERT ({error}); copy it again") from error


def read_encoder(folder: Path) -> BertModel:
    """The folder's BERT without pooler; keys may carry the prefix of a model with a head.

    Raises BadCheckpoint where configuration or weights are unreadable or do not fit each other.
    """
    encoder = build(folder, lambda config: BertModel(config, add_pooling_layer=False))
    file = weights_file(folder)
    state = strip_prefix(find_state(read_weights(file), file), "bert.")
    # The oldest files of the library call a LayerNorm's weight and bias gamma and beta.
    renamed = {k.replace(".gamma", ".weight").replace(".beta", ".bias"): state[k] for k in state}
    load_state(encoder, renamed, file, UNUSED)
    return encoder


def read_tokenizer(folder: Path, size: int) -> BertTokenizerFast:
    """The folder's word pieces, lower-casing whatever it says, for an encoder with `size` of them.

    Raises BadCheckpoint where they are unreadable or more than `size`.
    """
    try:
        tokenizer = BertTokenizerFast.from_pretrained(
            folder, do_lower_case=True, local_files_only=True
        )
    except Exception as error:  # the Rust side raises bare Exception for every broken file
        raise BadCheckpoint(f"{folder} holds no readable vocabulary ({error})") from error
    if len(tokenizer) > size:
        raise BadCheckpoint(
            f"{folder} mixes two models: {len(tokenizer)} word pieces, weights for {size}"
        )
    return tokenizer
