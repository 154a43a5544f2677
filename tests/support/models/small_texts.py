"""Small vocabularies in the formats of transformers."""

import json
from pathlib import Path

from transformers import CLIPTokenizerFast


def save_clip_tokenizer(folder: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {p: i for i, p in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)
