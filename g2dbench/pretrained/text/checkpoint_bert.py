"""A BERT whose weights are part of a larger checkpoint: its sizes, and its vocabulary.

The sizes are those of the weights, so that no config.json is needed. A vocabulary is part of no
checkpoint: it is read from a folder beside the file, or from the cache of the Hugging Face hub.
Nothing is downloaded.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from torch import Tensor
from transformers import BertConfig, BertTokenizerFast

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.text.bert import read_tokenizer
from g2dbench.pretrained.weights import State, select_prefix

CLINICAL_BERT = "emilyalsentzer/Bio_ClinicalBERT"
_HEAD_WIDTH = 64
"""Width of an attention head in every BERT that a wrapped model uses."""
_VOCABULARIES = ("vocab.txt", "tokenizer.json")


def bert_config(state: Mapping[str, Tensor], prefix: str, file: Path | str) -> BertConfig:
    """The configuration of the BERT under `prefix`, from the shapes of its weights.

    Raises BadCheckpoint where the file contains no BERT there.
    """
    part = select_prefix(state, prefix)
    try:
        words = part["embeddings.word_embeddings.weight"]
        layers = {key.split(".")[2] for key in part if re.match(r"encoder\.layer\.\d+\.", key)}
        return BertConfig(
            vocab_size=words.shape[0],
            hidden_size=words.shape[1],
            num_hidden_layers=len(layers),
            num_attention_heads=words.shape[1] // _HEAD_WIDTH,
            intermediate_size=part["encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=part["embeddings.position_embeddings.weight"].shape[0],
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise BadCheckpoint(
            f"{file} contains no BERT under {prefix!r} (missing or malformed: {error}); is it a "
            "file of another model, or of its image encoder alone?"
        ) from error


def modern_names(state: Mapping[str, Tensor]) -> State:
    """LayerNorm's weight and bias under their present names, in place of `gamma` and `beta`."""
    return {
        re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", key).replace(
            "LayerNorm.beta", "LayerNorm.bias"
        ): value
        for key, value in state.items()
    }


def find_tokenizer(file: Path, hub_id: str, vocab_size: int) -> BertTokenizerFast:
    """The lower-casing tokenizer of `hub_id` for a checkpoint with `vocab_size` token embeddings.

    Searched are the folder NAME beside the file (hub_id is ORGANIZATION/NAME), the file's own
    folder, and the hub's cache. Raises BadCheckpoint where there is no vocabulary, or one of
    another size.
    """
    own = file.parent / hub_id.partition("/")[2]
    for folder in (own, file.parent, *_cached(hub_id)):
        if any((folder / name).is_file() for name in _VOCABULARIES):
            tokenizer = read_tokenizer(folder, vocab_size)
            if len(tokenizer) != vocab_size:
                raise BadCheckpoint(
                    f"{file} has embeddings of {vocab_size} tokens, but the vocabulary in {folder} "
                    f"has {len(tokenizer)}: put vocab.txt of {hub_id} into {own}"
                )
            return tokenizer
    raise BadCheckpoint(
        f"{file} contains a text encoder but no vocabulary, and there is none in {own}, beside the "
        f"file or in the hub's cache: run `hf download {hub_id} vocab.txt --local-dir {own}`"
    )


def _cached(hub_id: str) -> Iterator[Path]:
    for name in _VOCABULARIES:
        found = try_to_load_from_cache(hub_id, name)
        if isinstance(found, str):
            yield Path(found).parent
