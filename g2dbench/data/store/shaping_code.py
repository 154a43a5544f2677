"""The source files that decide what a row holds: those that a reader imports, and `store/decode`.

A half-made store goes on only with the code that it began with. What a reader says of an image is
compared record by record (`records.mark`); but masks and image bytes are computed while a row is
made, so the code that computes them counts too. Imports are read from the source text, nothing is
run; only those within g2dbench, or within the plug-in's own package, are followed.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

DECODING = "g2dbench.data.store.decode"


def digest(reader: ModuleType) -> str:
    """SHA-256 of the files that decide what the rows of a reader, or of an embedded set, hold."""
    found = hashlib.sha256()
    for name, file in sorted(files(reader).items()):
        found.update(f"{name}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def files(reader: ModuleType) -> dict[str, Path]:
    """Those files by their modules' names."""
    packages = {"g2dbench", reader.__name__.partition(".")[0]}
    found: dict[str, Path] = {}
    waiting = [reader.__name__, DECODING]
    while waiting:
        name = waiting.pop()
        if name in found or (file := _file(name)) is None:
            continue
        found[name] = file
        waiting += [other for other in _imports(name, file) if other.split(".")[0] in packages]
    return found


def _imports(name: str, file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, types and functions' own imports included.

    For `from a import b` that is the module a.b, or else the module a.
    """
    inside = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), inside)
            for alias in node.names:
                module = f"{base}.{alias.name}"
                yield module if _file(module) is not None else base


def _file(name: str) -> Path | None:
    """The source file of a module; None where there is none of that name."""
    loaded = sys.modules.get(name)
    if loaded is not None and (found := getattr(loaded, "__file__", None)):
        return Path(found)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None
