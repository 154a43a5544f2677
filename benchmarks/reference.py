"""The reference pages of the documentation: `python benchmarks/reference.py --write`.

cli.md comes from the Typer application; models.md, data.md, tasks.md and methods.md come from the
cards. A test says when a page is not up to date.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from g2dbench.cards import Card, DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli import app
from g2dbench.cli.panels import PANELS
from g2dbench.registry import Registry

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
MADE = "<!-- made by: python benchmarks/reference.py --write -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the pages into docs/reference")
    args = parser.parse_args()
    for name, text in pages().items():
        if args.write:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text(text, encoding="utf-8")
        else:
            print(text)


def pages() -> dict[str, str]:
    """File name -> text of each page."""
    made = {"cli.md": _cli()}
    kinds: dict[str, tuple[str, type[Card], Callable[[Any], Iterator[str]]]] = {
        "models.md": ("Models", ModelCard, _model),
        "data.md": ("Data sets", DatasetCard, _dataset),
        "tasks.md": ("Tasks", TaskCard, _task),
        "methods.md": ("Pre-training methods", MethodCard, _method),
    }
    for file, (title, kind, describe) in kinds.items():
        lines = [f"# {title}", "", MADE]
        for card in Registry().cards(kind):
            lines += ["", f"## {card.name}", "", sentence(card.summary), "", *describe(card)]
        made[file] = "\n".join(lines) + "\n"
    return made


def _cli() -> str:
    """One section per command, in the order of the help."""
    group: Any = typer.main.get_command(app)
    lines = ["# Commands", "", MADE, "", "`g2dbench COMMAND --help` prints the same in a terminal."]
    for panel in PANELS:
        inside = {n: c for n, c in group.commands.items() if c.rich_help_panel == panel}
        lines += ["", f"## {panel}"] if inside else []
        for name, command in inside.items():
            lines += _command(f"g2dbench {name}", command)
            for sub, inner in getattr(command, "commands", {}).items():
                lines += _command(f"g2dbench {name} {sub}", inner)
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    words = " ".join(a.name.upper() for a in arguments)
    lines = ["", f"### {name}", "", inspect.cleandoc(command.help or "")]
    if hasattr(command, "commands"):
        return lines
    lines += ["", "```", f"{name} {words}", "```"] if words else []
    rows = [(a.name.upper(), a) for a in arguments]
    rows += [(", ".join((*o.opts, *o.secondary_opts)), o) for o in options]
    if rows:
        lines += ["", "| argument or option | meaning | default |", "|---|---|---|"]
    lines += [f"| `{title}` | {cell(p.help or '')} | {default(p)} |" for title, p in rows]
    examples = re.findall(r"^g2dbench .*$", command.epilog or "", re.MULTILINE)
    if examples:
        lines += ["", "```", *examples, "```"]
    code = re.search(r"^Exit code.*?(?=\n\n|\Z)", command.epilog or "", re.MULTILINE | re.DOTALL)
    return [*lines, "", " ".join(code[0].split())] if code else lines


def default(parameter: Any) -> str:
    """The default as the help shows it; required parameters have none."""
    shown = parameter.show_default
    if parameter.required:
        return "required"
    if isinstance(shown, str):
        return cell(shown)
    value = parameter.default
    if value is None or value is False or value is Ellipsis or callable(value):
        return ""
    many = value if isinstance(value, list | tuple) else [value]
    return ", ".join(f"`{getattr(each, 'value', each)}`" for each in many)


def _model(card: ModelCard) -> Iterator[str]:
    yield from facts(
        ("paper", card.paper),
        ("source", card.source),
        ("license of the weights", card.licence),
        ("restrictions", join(["gated"] * card.gated + ["no commercial use"] * card.noncommercial)),
        ("capabilities", join(card.capabilities)),
        ("pre-trained on", join(card.trained_on)),
        ("argument", _argument(card)),
        ("published files", join(card.files)),
        ("input", f"{card.input_size} x {card.input_size} pixels" if card.input_size else ""),
        ("text side", card.text_needs),
        ("tested with", join(card.tested_with)),
        ("openness", card.openness),
    )
    yield from ("", *(f"- {escaped(sentence(note))}" for note in card.notes)) if card.notes else ()


def _argument(card: ModelCard) -> str:
    if not card.source_kind and not card.needs_weights:
        return f"`--model {card.name}`"
    what = card.source_pattern or {"hub": "FOLDER or hub id"}.get(
        card.source_kind, card.source_kind.upper() or "SOURCE"
    )
    return f"`--model {card.name}:{what}`"


def _dataset(card: DatasetCard) -> Iterator[str]:
    yield from facts(
        ("annotations", join(card.offers)),
        ("findings", join(card.findings)),
        ("from", "generated by g2dbench" if card.embedded else card.url),
        ("license", card.licence),
        ("folder contains", join(f"`{each}`" for each in card.layout)),
        ("options", join(f"`{each}`" for each in card.options)),
    )


def _task(card: TaskCard) -> Iterator[str]:
    yield from facts(
        ("model needs", " or ".join(card.needs)),
        ("data set needs", " or ".join(card.annotations)),
        ("protocols", join(f"`{each}`" for each in card.protocols)),
        ("main score", f"`{card.metric}`"),
        ("trains a head", "yes" if card.fits else "no, zero-shot"),
        ("source", card.source),
    )


def _method(card: MethodCard) -> Iterator[str]:
    yield from facts(("paper", card.paper), ("capabilities", join(card.capabilities)))


def facts(*rows: tuple[str, str]) -> Iterator[str]:
    """A table of the facts that a card states."""
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {cell(text)} |" for name, text in rows if text)


def join(words: Iterable[str]) -> str:
    return ", ".join(words)


def sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def cell(text: str) -> str:
    return escaped(" ".join(text.split())).replace("|", "\\|")


def escaped(text: str) -> str:
    """Text whose <angle brackets> are no markup, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts)


if __name__ == "__main__":
    main()
