"""SHA-256 of modules' source code, with the modules of g2dbench and of their own package that they
import.

The syntax tree is hashed, without comments, docstrings and layout. Other packages (torch, numpy,
...) are not included; the provenance of a result states their versions.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from g2dbench.errors import BadData
from g2dbench.registry import stable_name


def source_digest(modules: Collection[str]) -> str:
    """The digest of loaded modules, given by dotted names; without a source file, of the name.

    For a module loaded from a file outside any package, imported modules in the same folder are
    included. BadData if a source file is not valid Python.
    """
    sources = _sources(modules)
    whole = hashlib.sha256()
    for name in sorted({*sources, *modules}):
        found = sources[name].digest if name in sources else ""
        whole.update(f"{stable_name(name)}\0{found}\n".encode())
    return whole.hexdigest()


def source_modules(modules: Collection[str]) -> set[str]:
    """The names of the modules that `source_digest` reads."""
    return set(_sources(modules))


@dataclass(frozen=True)
class _Source:
    """A file's digest, and its imports as (level of a relative import, dotted name)."""

    digest: str
    imports: tuple[tuple[int, str], ...]


def _sources(modules: Collection[str]) -> "dict[str, _Source]":
    found: dict[str, _Source] = {}
    for module in modules:
        _collect(module, _file_of(module), found)
    return found


def _collect(module: str, file: Path | None, sources: dict[str, _Source]) -> None:
    """Add a module and, depth first, the modules of its own package that it imports."""
    if file is None or module in sources:
        return
    state = file.stat()
    sources[module] = _read(file, state.st_mtime_ns, state.st_size)
    for level, name in sources[module].imports:
        absolute = _absolute(level, name, module, file)
        _collect(absolute, _related(absolute, module, file), sources)


def _absolute(level: int, name: str, module: str, file: Path) -> str:
    """The absolute name of an import."""
    if not level:
        return name
    above = level - 1 if file.name == "__init__.py" else level
    return ".".join([*module.split(".")[: -above or None], name]).strip(".")


def _related(name: str, module: str, file: Path) -> Path | None:
    """The file of a module of g2dbench, of the same package, or beside a file outside any."""
    if name.partition(".")[0] in ("g2dbench", module.partition(".")[0]):
        return _file_of(name)
    if "." in module or file.name == "__init__.py":
        return None
    stem = file.parent.joinpath(*name.split("."))
    places = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def _file_of(module: str) -> Path | None:
    """A module's source file; None if the name is not a module or has no source."""
    if (loaded := sys.modules.get(module)) is not None:
        file = getattr(loaded, "__file__", None)
    else:
        file = _found(module)
    path = Path(file) if file else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


@cache
def _found(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # `package.name` where `name` is not a module
        return None
    return spec.origin if spec is not None else None


@cache
def _read(file: Path, modified: int, size: int) -> _Source:
    """Digest and imports of a file; modified and size are part of the cache key only."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise BadData(f"the source file {file} cannot be read: {error}") from error
    imports = tuple(dict.fromkeys(_imports(tree)))
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and (ast.get_docstring(node, clean=False) is not None):
            node.body[0] = ast.Expr(ast.Constant(""))
    return _Source(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports)


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = f"{node.module}." if node.module else ""
            if node.module:
                yield node.level, node.module
            yield from ((node.level, f"{inside}{alias.name}") for alias in node.names)
