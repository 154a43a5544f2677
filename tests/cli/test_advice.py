"""Whatever g2dbench tells a reader to type exists: in messages, help, docstrings and docs.

Collected from the sources as they are, so that a new message is checked without being listed.
"""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from g2dbench.cards import DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli import app
from g2dbench.cli.look.list import Kind
from g2dbench.data.splits.published import OFFICIAL, OURS, published_splits
from g2dbench.methods.g2d.settings import G2DSettings
from g2dbench.methods.shared.settings import Settings
from g2dbench.recipes import recipe
from g2dbench.registry import KINDS, Registry
from g2dbench.system.overrides import settable

ROOT = Path(__file__).parents[2]
SOURCES = [
    f for d in ("g2dbench", "tasks", "baselines", "benchmarks") for f in (ROOT / d).rglob("*.py")
]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "Makefile",
    *(ROOT / "docs").rglob("*.md"),
]
GAP = "GAP"
"""Stands for what an f-string fills in."""

_STARTS = r"(?:^|`|\$ |/|Examples?: |next: |-m )"
_COMMAND = re.compile(rf"{_STARTS}g2dbench[ \t]+([a-z-][^`#\n]*)", re.MULTILINE)
_SHORT = re.compile(r"`((?:data|eval|list|pretrain|figure|ablate|leaderboard|score) [^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*[a-z]")
_KEY = re.compile(r"\b(?:data|augment|optim|model)(?!\.(?:pkl|safetensors|json))(?:\.[a-z_]+)+")
_PROSE = re.compile(
    r"(reads|knows|is|trains|needs|did|does|that|then|shall|import|and|plug-in|run folder)\b"
    r"|(stream 1|store) GAP"
)
"""A sentence about g2dbench that begins a line: "g2dbench reads at most ..."."""
_OTHERS = {"--local-dir": "hf download", "--nproc_per_node": "torchrun"}
"""Options of other programs that messages name."""


@dataclass(frozen=True)
class Line:
    """A command in a text: what follows `g2dbench`, and where it was found."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: g2dbench {self.text}"


@cache
def strings(file: Path) -> list[tuple[int, str, bool]]:
    """Every string of a source file: its line, its text, and whether it is a docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    alone = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else GAP for v in node.values]
            found.append((node.lineno, "".join(map(str, parts)), False))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((node.lineno, node.value, id(node) in alone))
    return found


def texts() -> Iterator[tuple[str, str]]:
    for file in SOURCES:
        for line, text, _ in strings(file):
            yield f"{file.relative_to(ROOT)}:{line}", text
    for page in PAGES:
        yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")


def commands() -> list[Line]:
    found = []
    for place, text in texts():
        joined = re.sub(r"\\\n\s*", "", text)
        for pattern in (_COMMAND, _SHORT):
            found += [Line(place, match.group(1)) for match in pattern.finditer(joined)]
    return [line for line in found if not _PROSE.match(line.text)]


def is_open(word: str) -> bool:
    """Whether a word stands for something else: FOLDER, GAP, $R, [OPTION], a path, NAME:SOURCE."""
    return bool(re.search(r"[A-Z$<>~/.\[\]{}]", word)) or word in ("...", "~")


GROUP: Any = typer.main.get_command(app)
COMMANDS = commands()


def checked(line: Line) -> None:
    """Walk the command line through the application; fails at the first word it does not know."""
    text = re.split(r",? and |; | > |, which|\)$", line.text)[0]
    words = shlex.split(re.sub(r"\.\.\.|[\[\]]|\|s3:\S+| \$R\b", "", text))
    if words[0].startswith("-"):
        assert words[0] in ("--help", "-h", "--version"), line
        return
    names, rest = words[0].split("|"), words[1:]
    command = GROUP
    for name in names:
        assert name in GROUP.commands, f"{line}: there is no command {name!r}"
        command = GROUP.commands[name]
    if hasattr(command, "commands"):
        subs = rest.pop(0).split("|") if rest else []
        for sub in subs:
            assert sub in command.commands, f"{line}: there is no command {names[0]} {sub!r}"
        command = command.commands[subs[0]] if subs else command
    positional = _options(command, rest, line)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    repeats = any(argument.nargs == -1 for argument in arguments)
    assert repeats or len(positional) <= len(arguments), f"{line}: {positional} are too many words"
    for parameter, word in zip(arguments, positional, strict=False):
        check_value(f"{names[0]} {parameter.name}", word, line)


def _options(command: Any, words: list[str], line: Line) -> list[str]:
    """Check every option and its value; returns the words that belong to none."""
    known = {name: p for p in command.params for name in p.opts if name.startswith("-")}
    known |= {"--help": None, "-h": None}
    positional, left = [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            positional.append(word)
            continue
        name, equals, value = word.partition("=")
        assert name in known, f"{line}: {command.name} has no option {name}"
        if known[name] is None or known[name].is_flag:
            continue
        if not equals:
            # "with --resume --out", as prose names options, ends in one without its value.
            if not left:
                break
            value = left.pop(0)
        check_value(name, value, line)
    return positional


REGISTRY = Registry()
READERS = [REGISTRY.find(DatasetCard, card.name).load() for card in REGISTRY.cards(DatasetCard)]
SPLITS = {OURS, OFFICIAL, *(name for reader in READERS for name in published_splits(reader))}
VALUES: dict[str, set[str]] = {
    "--task": {card.name for card in REGISTRY.cards(TaskCard)} | {"mirror"},
    "--method": {card.name for card in REGISTRY.cards(MethodCard)},
    "--recipe": set(recipe.names()),
    "--data": {card.name for card in REGISTRY.cards(DatasetCard)}
    | {"ward_7", "my_set", "sorted_films"},
    "--test-data": {card.name for card in REGISTRY.cards(DatasetCard)},
    "--split": SPLITS,
    "--model": {card.name for card in REGISTRY.cards(ModelCard)},
    "--format": {"md", "csv", "latex", "json", "html", "rich", "parquet", "webdataset"},
    "--protocol": {p for card in REGISTRY.cards(TaskCard) for p in card.protocols},
    "list kind": {kind.value for kind in Kind},
}
VALUES["data name"] = VALUES["data one"] = VALUES["data other"] = VALUES["--data"]


def check_value(name: str, value: str, line: Line) -> None:
    for one in value.split("|"):
        bare = re.split(r"[:@,]", one)[0]
        if name == "--set" and not is_open(value.partition("=")[0].replace(".", "")):
            check_key(value.partition("=")[0], line.place)
        elif name in VALUES and bare != "stream" and not is_open(bare):
            assert bare in VALUES[name], f"{line}: {name} does not take {bare!r}"


def test_the_collection_finds_the_advice_of_every_kind() -> None:
    """A regular expression that finds nothing would pass everything."""
    found = {re.sub(r":\d+", "", str(line)) for line in COMMANDS}
    assert len(found) > 80
    for wanted in (
        "g2dbench/result.py: g2dbench eval",
        "g2dbench list models",
        "README.md: g2dbench eval --task seg",
        "Makefile: g2dbench demo",
    ):
        assert any(wanted in line for line in found), wanted


@pytest.mark.parametrize("place", sorted({line.place for line in COMMANDS}))
def test_every_command_that_a_text_names_exists(place: str) -> None:
    for line in COMMANDS:
        if line.place == place:
            checked(line)


@pytest.mark.parametrize(
    "text",
    [
        "display model NAME", "list weights", "eval --taks seg", "data prepar rsna",
        "eval --task sgem",
        "pretrain --recipe g2d-huge", "pretrain --set optim.learning_rate=1", "doctor rsna",
    ],
)  # fmt: skip
def test_the_check_finds_faults(text: str) -> None:
    with pytest.raises(AssertionError):
        checked(Line("here", text))


@pytest.mark.parametrize("kind", ["model", "task", "data", "method"])
def test_every_command_that_show_prints_exists(kind: str) -> None:
    """With the names filled in, not as the source has them."""
    for card in REGISTRY.cards(KINDS[kind]):
        place = f"show {kind} {card.name}"
        shown = CliRunner().invoke(app, place.split())
        assert shown.exit_code == 0, shown.output
        text = " ".join(shown.output.split())
        command = re.search(r" then: g2dbench (.+)$", text)  # the last fact
        assert command or kind == "method", text
        if command:
            checked(Line(place, command[1]))
        for reference in re.findall(r" give: --model (\S+)", text):
            check_value("--model", reference, Line(place, reference))


HF = """import sys
from importlib.metadata import entry_points
(script,) = entry_points(group="console_scripts", name="hf")
sys.argv = ["hf", "download", "--help"]
script.load()()
"""


@pytest.mark.integration
def test_hf_download_that_messages_name_exists() -> None:
    shown = subprocess.run([sys.executable, "-c", HF], capture_output=True, text=True)
    assert "--local-dir" in shown.stdout, shown.stderr


def test_every_option_that_a_message_names_is_one() -> None:
    """Messages say "--precision fp32" without the command: some command must have the option."""
    known = {name for command in _all(GROUP) for p in command.params for name in p.opts}
    known |= {"--help", *_OTHERS}
    for file in SOURCES:
        if file.is_relative_to(ROOT / "benchmarks"):
            continue
        for line, text, _ in strings(file):
            for option in _OPTION.findall(text) if " " in text else ():
                assert option in known, f"{file.relative_to(ROOT)}:{line} names {option}: {text}"


def _all(group: Any) -> Iterator[Any]:
    yield group
    for command in getattr(group, "commands", {}).values():
        yield from _all(command)


def keys(model: type, prefix: str) -> Iterator[str]:
    """Every dotted key of a table of settings, tables included."""
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        yield f"{prefix}{name}"
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                yield from keys(kind, f"{prefix}{name}.")


def known_keys() -> set[str]:
    for card in REGISTRY.cards(MethodCard):
        REGISTRY.find(MethodCard, card.name).load()
    found = set(keys(recipe.Recipe, ""))
    kinds = [Settings]
    for kind in kinds:  # grows as it goes
        kinds += kind.__subclasses__()
    for kind in kinds:
        found |= set(keys(kind, "model."))
    for card in REGISTRY.cards(TaskCard):  # `eval --set` changes a protocol
        for protocol in REGISTRY.find(TaskCard, card.name).load().PROTOCOLS.values():
            found |= set(settable(protocol))
    return found


KEYS = known_keys()


def check_key(key: str, place: str) -> None:
    assert key in KEYS, f"{place} names {key}, which no recipe or protocol has"


def test_every_recipe_key_that_a_message_names_is_one() -> None:
    for file in SOURCES:
        for line, text, is_docstring in strings(file):
            if not is_docstring and " " in text:
                for key in _KEY.findall(text):
                    check_key(key.rstrip("."), f"{file.relative_to(ROOT)}:{line}")


def advised_changes() -> Iterator[tuple[str, str]]:
    """Every `KEY=VALUE` of a recipe's model that a message advises."""
    for file in SOURCES:
        for line, text, is_docstring in strings(file):
            if not is_docstring and " " in text:
                for change in re.findall(r"\bmodel(?:\.[a-z_]+)+=[a-z0-9]+", text):
                    yield f"{file.relative_to(ROOT)}:{line}", change


@pytest.mark.parametrize("name", ["g2d-tiny", "g2d-small", "g2d", "g2d-code", "g2d-paper"])
def test_the_changes_that_messages_advise_are_accepted(name: str) -> None:
    """By every recipe of G2D, since a message does not know which one is trained."""
    changes = list(advised_changes())
    assert len(changes) > 5
    for place, change in changes:
        model = recipe.override(recipe.load(name), [change]).model
        assert G2DSettings.model_validate(model), (place, change)


def test_make_targets_that_the_docs_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for place, text in texts():
        for target in re.findall(r"`make ([a-z]+)", text):
            assert target in targets, f"{place} names `make {target}`"
