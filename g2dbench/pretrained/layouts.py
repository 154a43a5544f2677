"""Layouts of state_dicts: what training tools put around a model's own key names."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from g2dbench.pretrained.weights import State

_WRAPPERS = re.compile(r"(^|\.)(module|_orig_mod|_fsdp_wrapped_module)\.")


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """The keys without the parts that data parallelism and compilation add, at any depth."""
    found: State = {}
    for key, value in state.items():
        name = key
        while (shorter := _WRAPPERS.sub(r"\1", name)) != name:
            name = shorter
        found[name] = value
    return found


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
