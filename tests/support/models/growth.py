"""Makes a small weights file as large as the published one, with random values.

A layout is never stated twice: names come from the small file, sizes from a few rules.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

State = dict[str, Tensor]
CLINICAL_BERT = {"vocab_size": 28996, "max_position_embeddings": 512}
"""Sizes in which it differs from BERT-base of 30522 word pieces."""
BERT_BASE: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, **CLINICAL_BERT,
}  # fmt: skip


def rewrite(file: Path, change: Callable[[State], State], key: str = "") -> Path:
    """Change the state_dict of a file, or the one at `key` in its content."""
    content: Any = torch.load(file, weights_only=False)
    if key:
        content[key] = change(content[key])
    else:
        content = change(content)
    torch.save(content, file)
    return file


def save(content: object, file: Path) -> Path:
    """torch.save, also into a folder that does not exist yet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file


def grown(state: State, sides: Mapping[int, int], prefix: str = "") -> State:
    """Every axis of a length in `sides` gets the other length; only below a prefix."""
    return {
        name: values(name, [sides.get(side, side) for side in value.shape])
        if name.startswith(prefix) and value.is_floating_point()
        else value
        for name, value in state.items()
    }


def deepened(state: State, pattern: str, count: int) -> State:
    """`count` blocks, all like the first; pattern: finds a block's number in a name."""
    found = {name: value for name, value in state.items() if not re.search(pattern, name)}
    for name, value in state.items():
        number = re.search(pattern, name)
        if number and number[1] == "0":
            for block in range(count):
                at, end = number.span(1)
                found[f"{name[:at]}{block}{name[end:]}"] = value.clone()
    return found


def with_bert(state: State, prefix: str, **sizes: Any) -> State:
    """A BERT-base below a prefix; of its weights those that the small one has."""
    kept = {_numberless(name) for name in state if name.startswith(prefix)}
    bert = BertModel(BertConfig(**{**CLINICAL_BERT, **sizes}))
    large = {f"{prefix}{name}": value for name, value in bert.state_dict().items()}
    others = {name: value for name, value in state.items() if not name.startswith(prefix)}
    return others | {name: v for name, v in large.items() if _numberless(name) in kept}


def _numberless(name: str) -> str:
    return re.sub(r"\.\d+\.", ".0.", name)


def values(name: str, shape: list[int]) -> Tensor:
    """Random weights that keep a network's activations finite."""
    if name.endswith("running_var"):
        return torch.ones(shape)
    if len(shape) < 2:
        return torch.full(shape, float(name.endswith(("weight", "gamma"))))
    return torch.randn(shape) * 0.02


def random_state(module: nn.Module) -> State:
    """The state_dict of a module, as its constructor fills it."""
    return {name: value.detach().contiguous() for name, value in module.state_dict().items()}


def extend_vocabulary(folder: Path, size: int = CLINICAL_BERT["vocab_size"]) -> None:
    """Fill a folder's vocab.txt with unused word pieces."""
    file = folder / "vocab.txt"
    words = file.read_text(encoding="utf-8").split()
    more = [f"[unused{number}]" for number in range(size - len(words))]
    file.write_text("\n".join([*words, *more]) + "\n", encoding="utf-8")


def edit_config(folder: Path, **sizes: Any) -> None:
    """Change values of a folder's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | sizes))
