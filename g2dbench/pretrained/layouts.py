"""Key layouts of published checkpoints: wrappers of training scripts, prefixes, renamed parts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from g2dbench.errors import BadCheckpoint
from g2dbench.pretrained.weights import State

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module)\.")
"""What DataParallel and torch.compile put before the keys of a module, at any depth."""


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """The keys without the parts that data parallelism and compilation add, at any depth."""
    return {_WRAPPERS.sub("", key): value for key, value in state.items()}


def strip_wrappers(state: Mapping[str, Tensor], file: Path | str) -> State:
    """The keys without `module.` and `_orig_mod.` at any depth; BadCheckpoint if two then agree."""
    stripped = unwrapped(state)
    if len(stripped) < len(state):
        raise BadCheckpoint(
            f"{file} contains the same weights twice, with and without `module.`: save the "
            "state_dict of one model and give that file"
        )
    return stripped


def strip_to(state: Mapping[str, Tensor], anchor: str, file: Path | str) -> State:
    """The keys without the prefix (`gloria.`, `model.`) that stands before the key `anchor`.

    Keys without this prefix keep their names, so that loading reports them. BadCheckpoint where
    several prefixes stand before `anchor`, as with the copies of a momentum encoder.
    """
    prefix = _prefix_before(state, anchor, file) or ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def part_with(state: Mapping[str, Tensor], anchor: str, file: Path | str) -> State:
    """The entries under the prefix that stands before the key `anchor`; others are left out.

    BadCheckpoint where there is no such key, or where several prefixes stand before it.
    """
    prefix = _prefix_before(state, anchor, file)
    if prefix is None:
        raise BadCheckpoint(f"{file} has no key that ends in {anchor}: is it of another model?")
    return part_of(state, prefix)


def _prefix_before(state: Mapping[str, Tensor], anchor: str, file: Path | str) -> str | None:
    prefixes = [key.removesuffix(anchor) for key in state if f".{key}".endswith(f".{anchor}")]
    if len(prefixes) > 1:
        raise BadCheckpoint(
            f"{file} contains {anchor} {len(prefixes)} times, under "
            f"{', '.join(map(repr, sorted(prefixes)))}: save the model to evaluate to its own file"
        )
    return prefixes[0] if prefixes else None


def rename_parts(state: Mapping[str, Tensor], parts: Mapping[str, str]) -> State:
    """Each key with its first prefix of `parts` replaced; other keys keep their names."""
    return {_renamed(key, parts): value for key, value in state.items()}


def _renamed(key: str, parts: Mapping[str, str]) -> str:
    old = next((prefix for prefix in parts if key.startswith(prefix)), None)
    return key if old is None else parts[old] + key[len(old) :]


def without(state: Mapping[str, Tensor], patterns: Iterable[str]) -> State:
    """The entries whose keys no regular expression of `patterns` finds."""
    found = tuple(patterns)
    return {key: v for key, v in state.items() if not any(re.search(p, key) for p in found)}


def renamed(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> State:
    """Each key after all substitutions of `rules` (regular expression, replacement), in order."""
    found: State = {}
    for key, value in state.items():
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def part_of(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries under a prefix, which is removed; others are left out."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def layers_in(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers the group of `pattern` has in the keys: the depth of a network."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})
