"""The plug-in registry: finds cards by name and loads a plug-in's module on request.

A plug-in is one file with a literal `CARD = ModelCard(...)` (or Task-, Dataset-, MethodCard). It is
found in this package's folders, through the entry-point group `g2dbench.plugins`, or by the option
`--plugin FILE`. Cards are read from the source text, never by import: listing runs no plug-in code
(docs/decisions/001-cards-are-literals.md).
"""

import ast
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from g2dbench import cards
from g2dbench.errors import BadData, Misuse

ENTRY_POINTS = "g2dbench.plugins"

PLUGIN_FOLDERS = (
    "baselines",
    "baselines.image_encoders",
    "baselines.image_text",
    "tasks",
    "data.readers",
    "data.custom",
    "data.synthetic",
    "methods",
)
"""Packages of g2dbench in which every file with a CARD is a plug-in."""

C = TypeVar("C", bound=cards.Card)

KINDS: dict[str, type[cards.Card]] = {
    "model": cards.ModelCard,
    "task": cards.TaskCard,
    "data": cards.DatasetCard,
    "method": cards.MethodCard,
}
_LISTED: dict[type[cards.Card], str] = {
    cards.ModelCard: "models",
    cards.TaskCard: "tasks",
    cards.DatasetCard: "data",
    cards.MethodCard: "methods",
}
_CLASSES = {kind.__name__: kind for kind in KINDS.values()}


@dataclass(frozen=True)
class Entry(Generic[C]):
    """A card and its module: a dotted name, or a file outside the package."""

    card: C
    file: Path
    module: str

    def load(self) -> ModuleType:
        """Import the plug-in, which runs its code."""
        if self.module in sys.modules:
            return sys.modules[self.module]
        if importlib.util.find_spec(self.module.partition(".")[0]) is not None:
            return importlib.import_module(self.module)
        return _import_file(self.module, self.file)


_PLUGIN = "g2dbench_plugin_"


def stable_name(module: str) -> str:
    """A module's name without the suffix for the plug-in file's version and location."""
    return module.rpartition("_")[0] if module.startswith(_PLUGIN) else module


class Registry:
    """All plug-ins: those of the package, of installed packages, and of `--plugin` files.

    problems: a sentence for each installed plug-in that is broken; these are left out.
    """

    def __init__(self, plugin_files: Iterable[Path] = ()) -> None:
        self._entries: dict[tuple[type[cards.Card], str], Entry] = {}
        installed, problems = _installed()
        self.problems: list[str] = list(problems)
        for entry in (*_builtin(), *installed):
            self._add(entry)
        for file in plugin_files:
            self.add_file(file)

    def add_file(self, file: Path) -> Entry:
        """Add a plug-in file; Misuse for a missing file or card, BadData for an unreadable file."""
        if not file.is_file():
            raise Misuse(f"there is no plug-in file {file}")
        card = read_card(file)
        if card is None:
            raise Misuse(
                f"{file} is not a g2dbench plug-in: it has no top-level `CARD = ModelCard(...)` "
                "(or TaskCard, DatasetCard, MethodCard)"
            )
        # An edited file gets a new module name, so that a running process loads the new version.
        version = hashlib.sha256(str(file.resolve()).encode() + file.read_bytes()).hexdigest()[:8]
        entry = Entry(card, file, f"{_PLUGIN}{file.stem}_{version}")
        self._add(entry)
        return entry

    def cards(self, kind: type[C]) -> list[C]:
        """All cards of a kind, sorted by name."""
        found = [entry.card for (of, _), entry in self._entries.items() if of is kind]
        return sorted(found, key=lambda card: card.name)

    def task_order(self) -> list[str]:
        """Names of the tasks in the order of a leaderboard's columns."""
        found = sorted(self.cards(cards.TaskCard), key=lambda card: (card.order, card.name))
        return [card.name for card in found]

    def find(self, kind: type[C], name: str) -> Entry[C]:
        """The entry with this name; Misuse with the closest known name if there is none."""
        entry = self._entries.get((kind, name))
        if entry is None:
            known = [card.name for card in self.cards(kind)]
            raise Misuse(unknown_name(_noun(kind), name, known, f"g2dbench list {_LISTED[kind]}"))
        return entry

    def _add(self, entry: Entry) -> None:
        key = (type(entry.card), entry.card.name)
        if (before := self._entries.get(key)) and before.file.resolve() != entry.file.resolve():
            raise Misuse(
                f"two plug-ins are called {entry.card.name!r}: {before.file} and {entry.file}; "
                "rename one of them"
            )
        self._entries[key] = entry


MAX_NAMES = 16
"""A message about an unknown name lists all known ones if there are not more than this."""


def unknown_name(noun: str, name: str, known: Sequence[str], listing: str = "") -> str:
    """The error message for an unknown name, with the closest known ones as a suggestion.

    listing: the command that lists all of them, named instead of a long list.
    """
    near = difflib.get_close_matches(name, known, n=3 if len(known) > MAX_NAMES else 1, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    if len(known) <= MAX_NAMES:
        rest = f"Known: {', '.join(known) or 'none'}"
    elif listing:
        rest = f"`{listing}` lists all {len(known)}"
    else:
        others = len(known) - MAX_NAMES
        rest = f"Known: {', '.join(known[:MAX_NAMES])} and {others} others"
    return f"there is no {noun} {name!r}: {hint}{rest}"


def read_card(file: Path) -> cards.Card | None:
    """The card of a plug-in file, read from its source text; None if the file has none."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise BadData(f"the plug-in {file} cannot be read: {error}") from error
    for node in tree.body:
        value = _assigned(node)
        if isinstance(value, ast.Call) and (kind := _CLASSES.get(_called(value))) is not None:
            return _build(kind, value, file)
    return None


def _assigned(node: ast.stmt) -> ast.expr | None:
    """The value of a top-level `CARD = ...`, with or without a type annotation."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    named = any(isinstance(target, ast.Name) and target.id == "CARD" for target in targets)
    return node.value if named else None  # type: ignore[attr-defined]


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _build(kind: type[cards.Card], call: ast.Call, file: Path) -> cards.Card:
    try:
        arguments = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return kind(**arguments)
    except (ValueError, TypeError) as error:
        raise BadData(
            f"the card in {file}, line {call.lineno}, cannot be read: {error}; "
            "a card takes literal keyword arguments only"
        ) from error


@cache
def _builtin() -> tuple[Entry, ...]:
    """The plug-ins of this package, in the order of PLUGIN_FOLDERS."""
    found: list[Entry] = []
    for package in PLUGIN_FOLDERS:
        spec = importlib.util.find_spec(f"g2dbench.{package}")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        for folder in spec.submodule_search_locations:
            found += _scan(Path(folder), spec.name)
    return tuple(found)


def _scan(folder: Path, package: str) -> Iterator[Entry]:
    for file in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
        card = read_card(file)
        if card is not None:
            name = file.parent.name if file.name == "__init__.py" else file.stem
            yield Entry(card, file, f"{package}.{name}")


@cache
def _installed() -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The plug-ins of other installed packages, and a sentence for each that is broken.

    They are `[project.entry-points."g2dbench.plugins"]`. No code of theirs runs.
    """
    found: list[Entry] = []
    problems: list[str] = []
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        name = f"the installed plug-in {entry_point.name!r}"
        file = _module_file(entry_point.module)
        if file is None:
            problems.append(f"{name} names no module {entry_point.module!r}: install it again")
            continue
        try:
            card = read_card(file)
        except BadData as error:
            problems.append(f"{name}: {error}")
            continue
        if card is None:
            problems.append(f"{name} ({file}) has no CARD")
        else:
            found.append(Entry(card, file, entry_point.module))
    return tuple(found), tuple(problems)


def _module_file(module: str) -> Path | None:
    """The source file of a module, found without importing the packages that contain it."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _import_file(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _noun(kind: type[cards.Card]) -> str:
    return {"model": "model", "task": "task", "data": "data set", "method": "method"}[
        next(name for name, of in KINDS.items() if of is kind)
    ]
