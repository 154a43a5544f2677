"""An option that several commands have is defined once and means the same in all of them."""

import ast
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import OptionInfo

from g2dbench.cli import app
from g2dbench.cli.options import REPEATS
from g2dbench.data.store.request import SIZES

SPECIFIC = {
    "--batch-size": {"profile": "pairs of a step"},
    "--format": {
        "leaderboard": "a text format",
        "compare": "the same without LaTeX",
        "data export": "a kind of shard",
    },
    "--json": {"profile": "a file to write", "data list": "a flag"},
    "--name": {"data prepare": "name of a data set", "export": "first part of file names"},
    "--out": {
        "figure maps": "an image file",
        "figure efficiency": "a figure",
        "figure forest": "a figure",
        "figure masks": "a figure",
        "data export": "a folder or an s3:// address",
        "predict": "a CSV file",
        "errors": "a CSV file",
        "report": "an HTML file",
        "rerun": "results, of another default",
    },
    "--id": {"figure maps": "an image of --data", "figure masks": "a predicted image"},
    "--images": {"figure maps": "one image file", "predict": "a folder of images"},
    "--model": {"predict": "where one model is now", "import": "a name in tables"},
    "--subset-seed": {"import": "one seed, not a list"},
    "--task": {"import": "one task, not a list"},
    "--set": {"eval": "a setting of the protocol"},
}
"""Options with a meaning of their own in these commands, which therefore define them themselves."""

Definition = tuple[str, str, object, object]
"""Help text without the mark of a repeated option, Python type, minimum and maximum."""


def commands(group: typer.Typer, prefix: str = "") -> dict[str, Callable[..., Any]]:
    """Full name -> function."""
    found: dict[str, Callable[..., Any]] = {}
    for command in group.registered_commands:
        assert command.callback
        name = command.name or command.callback.__name__
        found[f"{prefix}{name}"] = command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance
        found |= commands(inner.typer_instance, f"{prefix}{inner.name} ")
    return found


def options(function: Callable[..., Any]) -> dict[str, tuple[Any, OptionInfo]]:
    """Option -> its Python type and what typer knows of it; an option without a name has that of
    its parameter."""
    found: dict[str, tuple[Any, OptionInfo]] = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        if get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], OptionInfo):
            info: OptionInfo = hint.__metadata__[0]
            # Inside Annotated, typer.Option's first name arrives as the default.
            given = [each for each in (info.default, *(info.param_decls or ())) if each != ...]
            for option in given or [f"--{name.replace('_', '-')}"]:
                found[option] = (get_args(hint)[0], info)
    return found


def item_type(kind: Any) -> Any:
    """`list[int] | None` -> int."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    return get_args(kind)[0] if get_origin(kind) is list else kind


def is_repeated(kind: Any) -> bool:
    return get_origin(kind) is list or any(get_origin(each) is list for each in get_args(kind))


def definitions(group: typer.Typer) -> dict[str, dict[str, Definition]]:
    """Option -> command -> its definition."""
    found: dict[str, dict[str, Definition]] = defaultdict(dict)
    for command, function in commands(group).items():
        for option, (kind, info) in options(function).items():
            text = (info.help or "").removesuffix(REPEATS)
            found[option][command] = (text, repr(item_type(kind)), info.min, info.max)
    return found


def conflicts(found: dict[str, dict[str, Definition]]) -> dict[str, dict[str, Definition]]:
    """Options that two commands define with different help or type, without those of SPECIFIC."""
    general = {
        option: {c: d for c, d in by_command.items() if c not in SPECIFIC.get(option, {})}
        for option, by_command in found.items()
    }
    return {option: each for option, each in general.items() if len(set(each.values())) > 1}


def test_an_option_of_several_commands_has_one_help_text_and_one_type() -> None:
    found = definitions(app)
    assert {"eval", "pretrain", "demo", "ablate"} <= (found["--seed"].keys())
    assert conflicts(found) == {}


def test_a_repeated_option_says_that_it_repeats() -> None:
    for command, function in commands(app).items():
        for option, (kind, info) in options(function).items():
            repeats = (info.help or "").endswith(REPEATS)
            assert repeats == is_repeated(kind), f"{command} {option}"


def test_the_sizes_of_images_have_the_bounds_of_the_store() -> None:
    for _, _, least, most in definitions(app)["--size"].values():
        assert (least, most) == SIZES


def test_every_specific_option_still_belongs_to_several_commands() -> None:
    found = definitions(app)
    for option, by_command in SPECIFIC.items():
        assert by_command.keys() <= found[option].keys(), option
        assert len(found[option]) > 1, option


@pytest.mark.parametrize(("kind", "text"), [(int, "Another text."), (str, "A text.")])
def test_a_second_definition_is_found(kind: type, text: str) -> None:
    planted = typer.Typer()

    @planted.command()
    def one(same: Annotated[int, typer.Option(help="A text.")] = 0) -> None: ...

    def two(same: Any = None) -> None: ...

    two.__annotations__["same"] = Annotated[kind, typer.Option(help=text)]
    planted.command()(two)
    assert list(conflicts(definitions(planted))) == ["--same"]


def defined_in(file: Path) -> set[str]:
    """The named options that a file defines, and the parameters that it annotates with others."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        value = getattr(node, "annotation" if isinstance(node, ast.arg) else "value", None)
        if not isinstance(node, ast.arg | ast.Assign) or value is None:
            continue
        for call in ast.walk(value):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "typer.Option":
                names = {str(each.value) for each in call.args if isinstance(each, ast.Constant)}
                parameter = node.arg if isinstance(node, ast.arg) else ""
                found |= names or {f"--{parameter.replace('_', '-')}"}
    return found


def test_shared_options_are_defined_in_one_file_and_others_beside_their_command(
    project: Path,
) -> None:
    found, folder = definitions(app), project / "g2dbench" / "cli"
    shared = {option for option, by_command in found.items() if len(by_command) > 1}
    elsewhere = {file.name: defined_in(file) for file in sorted(folder.rglob("*.py"))}
    central = elsewhere.pop("options.py")
    assert {name: each & shared - SPECIFIC.keys() for name, each in elsewhere.items()} == {
        name: set() for name in elsewhere
    }
    assert central <= shared
