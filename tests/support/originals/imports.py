"""Imports the authors' code from a checkout, with stand-ins for modules that it does not need."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar


class StandIn(ModuleType):
    """A module whose every attribute is a class that does nothing."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **options: None})


@contextmanager
def imported(
    roots: list[Path], stand_ins: tuple[str, ...] = (), given: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """Yields `importlib.import_module` with `roots` first on the path; undone afterwards.

    stand_ins: names of modules that become empty. given: modules, or the attributes of a module,
    that are put in place of what is installed.
    """
    before, path = dict(sys.modules), list(sys.path)
    for name in stand_ins:
        sys.modules[name] = StandIn(name)
    for name, content in (given or {}).items():
        sys.modules[name] = content if isinstance(content, ModuleType) else _module(name, content)
    sys.path[:0] = [str(root) for root in roots]
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name not in before]:
            del sys.modules[name]
        sys.modules.update(before)


def _module(name: str, attributes: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    return module


def settings(**values: Any) -> SimpleNamespace:
    """Nested settings with attributes, as OmegaConf gives them."""
    return SimpleNamespace(
        **{
            key: settings(**value) if isinstance(value, dict) else value
            for key, value in values.items()
        }
    )


class ConfigDict(dict[str, Any]):
    """Settings with attributes that can be set and deleted, as ml_collections gives them."""

    __getattr__ = dict.get
    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__
