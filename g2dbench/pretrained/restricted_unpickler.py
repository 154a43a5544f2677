"""Tensors out of a pickle without running it: the second door of `g2dbench.pretrained.weights`.

Checkpoints of training frameworks carry configuration objects next to their tensors (Lightning's
`hyper_parameters`, argparse's `Namespace`), at which `torch.load(weights_only=True)` gives up. The
unpickler below calls nothing but the handful of builders of `_BUILDERS`, found by their exact
(module, name); every other global, whatever module it is of, becomes an inert object. It also
ignores BUILD, extension codes and every persistent id that is no storage, because each of them
reaches code (torch's legacy reader writes `.patch` files on request of a "module" id).
"""

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

# The pure-Python unpickler, since only there can each opcode be replaced.
_Base: Any = pickle._Unpickler


class Inert:
    """Stands for an object that was not rebuilt; takes whatever a pickle does to it."""

    __slots__ = ()

    def __setitem__(self, key: object, value: object) -> None:
        """Forget an item."""

    def append(self, value: object) -> None:
        """Forget an element."""

    def extend(self, values: object) -> None:
        """Forget elements."""

    def add(self, value: object) -> None:
        """Forget a member."""


class _Global:
    """A name that the pickle mentioned: a builder of ours, or nothing that can be called."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any] | None) -> None:
        self.build = build


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    held = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    if 0 not in size and not 0 <= last < held:
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    rebuilt: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return rebuilt


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
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
    """Reads data and tensors; calls the builders of `_BUILDERS` and nothing else."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_Base.dispatch)

    def find_class(self, module: str, name: str) -> _Global:
        """The builder of exactly this name, or an inert stand-in; imports nothing."""
        return _Global(_BUILDERS.get((module, name)))

    def get_extension(self, code: int) -> None:
        """An extension code stands for a global; it is never looked up."""
        self.append(_Global(None))

    def _call(self, function: object, arguments: tuple[Any, ...]) -> Any:
        if isinstance(function, _Global) and function.build is not None:
            return function.build(*arguments)
        return Inert()

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

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

    def _ignore_state(self) -> None:
        self.stack.pop()

    def _persistent(self) -> None:
        self._append_storage(self.stack.pop())

    def _persistent_text(self) -> None:
        self._append_storage(self.readline())

    def _append_storage(self, mark: object) -> None:
        known = isinstance(mark, tuple) and mark and mark[0] in ("storage", b"storage")
        self.append(self.persistent_load(mark) if known else Inert())


RestrictedUnpickler.dispatch |= {
    pickle.REDUCE[0]: RestrictedUnpickler._reduce,
    pickle.NEWOBJ[0]: RestrictedUnpickler._reduce,
    pickle.NEWOBJ_EX[0]: RestrictedUnpickler._new_with_keywords,
    pickle.OBJ[0]: RestrictedUnpickler._old_instance,
    pickle.INST[0]: RestrictedUnpickler._old_named_instance,
    pickle.BUILD[0]: RestrictedUnpickler._ignore_state,
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
"""What `torch.load(pickle_module=...)` takes for both of its formats, zip and legacy."""
