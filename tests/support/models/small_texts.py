"""Small vocabularies in the formats of transformers."""

import json
from pathlib import Path

from transformers import CLIPTokenizerFast


def save_clip_tokenizer(folder: Path, size: int = 54) -> None:
    """CLIP's tokenizer of single letters; size: tokens in all, the further ones unused."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [f"unused{number}" for number in range(size - len(pieces) - 2)]
    vocabulary = {p: i for i, p in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)
