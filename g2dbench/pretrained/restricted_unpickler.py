"""Reads the tensors of a pickle without executing it; the fallback of `pretrained.weights`.

Checkpoints of training frameworks contain configuration objects beside their tensors (Lightning's
`hyper_parameters`, argparse's `Namespace`), which `torch.load(weights_only=True)` refuses. The
unpickler below calls only the few functions of `_BUILDERS`, which it finds by their exact
(module, name); every other global becomes an inert object. BUILD stores a mapping in such an object
as data, so that the tensors of a pickled module can be found, and calls nothing. Ignored are
extension codes and every persistent id that is not a storage, because each of them can execute code
(torch's legacy reader writes a `.patch` file for a "module" id).
"""

import pickle
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

# The pure-Python unpickler, because the C version does not allow opcodes to be replaced.
_Base: Any = pickle._Unpickler


class Inert:
    """Placeholder for an object that is not rebuilt; ignores every change that a pickle makes.

    state: the attributes that the pickle gives to the object, as data; empty if it gives none.
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Mapping[str, Any] = {}

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an item."""

    def append(self, value: object) -> None:
        """Ignore an element."""

    def extend(self, values: object) -> None:
        """Ignore elements."""

    def add(self, value: object) -> None:
        """Ignore a member."""


def module_state(module: Inert, prefix: str = "") -> dict[str, Tensor]:
    """The state_dict of a pickled `torch.nn.Module`, which was read as an inert object."""
    found: dict[str, Tensor] = {}
    for group in ("_parameters", "_buffers"):
        for name, value in _mapping(module.state.get(group)).items():
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value
    for name, part in _mapping(module.state.get("_modules")).items():
        if isinstance(part, Inert):
            found |= module_state(part, f"{prefix}{name}.")
    return found


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


class _Global:
    """A global that the pickle names: a function of `_BUILDERS`, or None, which is never called."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any] | None) -> None:
        self.build = build


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    capacity = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if 0 not in size and not 0 <= last < capacity:
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    rebuilt: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return rebuilt


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes with the encoding {encoding!r}")
    return text.encode("latin1")


_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    ("_codecs", "encode"): _bytes,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}


class RestrictedUnpickler(_Base):
    """Reads data and tensors; calls only the functions of `_BUILDERS`."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Base.dispatch)

    def find_class(self, module: str, name: str) -> _Global:
        """The builder with exactly this name, or a placeholder; nothing is imported."""
        return _Global(_BUILDERS.get((module, name)))

    def get_extension(self, code: int) -> None:
        """Push a placeholder: the global of an extension code is never looked up."""
        self.append(_Global(None))

    def _call_builder(self, function: object, arguments: tuple[Any, ...]) -> Any:
        if isinstance(function, _Global) and function.build is not None:
            return function.build(*arguments)
        return Inert()

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call_builder(self.stack[-1], arguments)

    def _new_with_keywords(self) -> None:
        del self.stack[-2:]
        self.stack[-1] = Inert()

    def _old_instance(self) -> None:
        self.pop_mark()
        self.append(Inert())

    def _old_named_instance(self) -> None:
        self.readline()
        self.readline()
        self._old_instance()

    def _keep_state(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert) and type(state) is dict:
            self.stack[-1].state = state

    def _persistent(self) -> None:
        self._append_storage(self.stack.pop())

    def _persistent_text(self) -> None:
        self._append_storage(self.readline())

    def _append_storage(self, persistent_id: object) -> None:
        is_storage = (
            isinstance(persistent_id, tuple)
            and persistent_id
            and persistent_id[0] in ("storage", b"storage")
        )
        self.append(self.persistent_load(persistent_id) if is_storage else Inert())


RestrictedUnpickler.dispatch |= {
    pickle.REDUCE[0]: RestrictedUnpickler._reduce,
    pickle.NEWOBJ[0]: RestrictedUnpickler._reduce,
    pickle.NEWOBJ_EX[0]: RestrictedUnpickler._new_with_keywords,
    pickle.OBJ[0]: RestrictedUnpickler._old_instance,
    pickle.INST[0]: RestrictedUnpickler._old_named_instance,
    pickle.BUILD[0]: RestrictedUnpickler._keep_state,
    pickle.BINPERSID[0]: RestrictedUnpickler._persistent,
    pickle.PERSID[0]: RestrictedUnpickler._persistent_text,
}


def _load(file: IO[bytes], **options: Any) -> Any:
    return RestrictedUnpickler(file, **options).load()


def _loads(data: bytes, **options: Any) -> Any:
    raise pickle.UnpicklingError("a pickle inside a pickle")


PICKLE_MODULE = SimpleNamespace(
    __name__="g2dbench.pretrained.restricted_unpickler",
    Unpickler=RestrictedUnpickler,
    load=_load,
    loads=_loads,
)
"""The argument `pickle_module` of `torch.load`, for the zip format and the legacy format."""
