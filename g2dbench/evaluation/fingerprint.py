"""The fingerprint of a model, computed from the loaded object, never stated by the plug-in.

Three digests (docs/decisions/008-what-identifies-a-cell.md):

    weights    names, types, shapes and bytes of the state_dict
    settings   every other value in the model and its submodules: preprocessing, sizes,
               temperatures, tokenizer with vocabulary, prompts, tensors outside the state_dict
    code       the source of the model's classes and functions

Values that do not change the output are excluded: paths, devices, the training flag, hooks.
"""

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from g2dbench.model import Model
from g2dbench.pretrained.weights import digest as weights_digest
from g2dbench.registry import stable_name
from g2dbench.system.source_digest import source_digest

MAX_DEPTH = 12
"""Nesting depth to which objects are inspected; deeper ones count by their class only."""

LIBRARIES = frozenset((
    "PIL", "abc", "accelerate", "builtins", "collections", "dataclasses", "enum", "functools",
    "huggingface_hub", "numpy", "open_clip", "pathlib", "re", "safetensors", "scipy",
    "segmentation_models_pytorch", "sklearn", "timm", "tokenizers", "torch", "torchvision",
    "transformers", "types", "typing",
))  # fmt: skip
"""Packages whose code is not hashed: the result's provenance states their versions."""

_LOCATION_FIELDS = frozenset(
    {"_name_or_path", "name_or_path", "_commit_hash", "transformers_version"}
)
_MODULE_FIELDS = frozenset(vars(nn.Module()))
_FUNCTIONS = (
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial, type,
)  # fmt: skip
_IDENTITY_FIELDS = frozenset({"card", "identity"})


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """SHA-256 in hex of a model's weights, settings and code."""

    weights: str
    settings: str
    code: str


_measured: "WeakKeyDictionary[Model, Fingerprint]" = WeakKeyDictionary()


def fingerprint(model: Model) -> Fingerprint:
    """A loaded model's fingerprint; computed at the first call, before the model runs."""
    found = _measured.get(model)
    if found is None:
        walk = _ObjectWalk()
        settings = hashlib.sha256()
        for line in walk.lines(model, "", 0):
            settings.update(line.encode(errors="backslashreplace"))
            settings.update(b"\n")
        code = source_digest(sorted(walk.modules))
        found = _measured[model] = Fingerprint(weights_digest(model), settings.hexdigest(), code)
    return found


def forget(model: Model) -> None:
    """Compute the model's fingerprint again at the next call, as it may have been changed."""
    _measured.pop(model, None)


class _ObjectWalk:
    """Describes an object's contents as text lines, in the same order in every process."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._seen: dict[int, str] = {}
        self._kept_alive: list[object] = []

    def lines(self, value: Any, name: str, depth: int) -> Iterator[str]:
        """The lines of a value; name: its path in the model, such as `.preprocess.mean[0]`."""
        if isinstance(value, PurePath | torch.device | torch.Generator):
            return
        if (plain := _leaf_text(value)) is not None:
            yield f"{name} {plain}"
        elif id(value) in self._seen:
            yield f"{name} is {self._seen[id(value)]}"
        else:
            self._seen[id(value)] = name
            self._kept_alive.append(value)
            yield from self._contents(value, name, depth)

    def _contents(self, value: Any, name: str, depth: int) -> Iterator[str]:
        kind = type(value)
        self._add_module(kind.__module__)
        yield f"{name} {stable_name(kind.__module__)}.{kind.__qualname__}"
        if depth >= MAX_DEPTH:
            return
        if isinstance(value, PreTrainedTokenizerBase):
            yield from self._tokenizer(value, name, depth)
        elif isinstance(value, _FUNCTIONS):
            yield from self._function(value, name, depth)
        else:
            for key, part in _members(value):
                yield from self.lines(part, f"{name}{key}", depth + 1)

    def _function(self, value: Any, name: str, depth: int) -> Iterator[str]:
        if isinstance(value, functools.partial):
            yield from self.lines(value.func, f"{name}.func", depth + 1)
            yield from self.lines(value.args, f"{name}.args", depth + 1)
            yield from self.lines(value.keywords, f"{name}.keywords", depth + 1)
            return
        self._add_module(getattr(value, "__module__", None) or "builtins")
        yield f"{name} {getattr(value, '__qualname__', '')}"
        for number, cell in enumerate(getattr(value, "__closure__", None) or ()):
            yield from self.lines(cell.cell_contents, f"{name}.closure[{number}]", depth + 1)

    def _tokenizer(self, value: PreTrainedTokenizerBase, name: str, depth: int) -> Iterator[str]:
        backend = getattr(value, "backend_tokenizer", None)
        whole = backend.to_str() if backend is not None else repr(sorted(value.get_vocab().items()))
        yield f"{name} {hashlib.sha256(whole.encode(errors='backslashreplace')).hexdigest()}"
        for key in ("special_tokens_map", "model_max_length", "padding_side", "truncation_side"):
            yield from self.lines(getattr(value, key, None), f"{name}.{key}", depth + 1)

    def _add_module(self, module: str) -> None:
        if module.partition(".")[0] not in LIBRARIES:
            self.modules.add(module)


def _leaf_text(value: Any) -> str | None:
    """A value without members as text; None for other values."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, torch.dtype | torch.Size | np.dtype | np.generic | range | slice):
        return repr(value)
    if isinstance(value, re.Pattern):
        return f"pattern {value.pattern!r} {value.flags}"
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if value.dtype is torch.bfloat16:
            value = value.float()
        value = value.numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        data = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array {value.dtype} {value.shape} {data}"
    return None


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """An object's members with their names: items or attributes, in sorted order."""
    if isinstance(value, nn.Module):
        yield from _module_members(value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            if key not in _LOCATION_FIELDS:
                yield f"[{key!r}]", value[key]
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{number}}}", item) for number, item in enumerate(sorted(value, key=repr)))
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", item) for number, item in enumerate(value))
    else:
        attributes = getattr(value, "__dict__", {})
        slots = {
            name: getattr(value, name) for name in _maps_by_level(value) if hasattr(value, name)
        }
        for key, part in sorted({**slots, **attributes}.items()):
            if key not in _LOCATION_FIELDS:
                yield f".{key}", part


def _module_members(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of a module that are not torch's own, then its submodules.

    Parameters and buffers belong to the weights; non-persistent buffers are included here.
    """
    if isinstance(module, Model):
        # Often class attributes: `preprocess = Preprocess(...)`.
        for key in ("preprocess", "channels", "strides", "fixed_size", "grounding"):
            yield f".{key}", getattr(module, key, None)
    for key, part in sorted(vars(module).items()):
        skipped = (
            _MODULE_FIELDS
            | _LOCATION_FIELDS
            | (_IDENTITY_FIELDS if isinstance(module, Model) else set())
        )
        if key not in skipped and key != "training":
            yield f".{key}", part
    for key in sorted(module._non_persistent_buffers_set):
        yield f".{key}", module._buffers[key]
    for key, child in module._modules.items():
        yield f".{key}", child


def _maps_by_level(value: Any) -> list[str]:
    slots = (getattr(kind, "__slots__", ()) for kind in type(value).__mro__)
    return [name for found in slots for name in ((found,) if isinstance(found, str) else found)]
