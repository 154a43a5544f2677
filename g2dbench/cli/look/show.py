"""`g2dbench show model|task|data|method|suite NAME`: the whole card; no plug-in is loaded."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cards import DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli.blocks import Block
from g2dbench.cli.blocks import show as print_blocks
from g2dbench.cli.console import console
from g2dbench.cli.look.weights import describe_license, describe_presence, weight_folders
from g2dbench.cli.options import Plugins, WeightsFolder
from g2dbench.cli.panels import LOOK
from g2dbench.registry import Registry

EPILOG = """Examples:

g2dbench show model biovil

g2dbench show task seg
"""

Facts = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """What can be shown."""

    model = "model"
    task = "task"
    data = "data"
    method = "method"
    suite = "suite"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=LOOK)(show)


def show(
    kind: Annotated[Kind, typer.Argument(help="What to show.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Its name; `g2dbench list`.", show_default=False)],
    weights: WeightsFolder = None,
    plugin: Plugins = None,
) -> None:
    """Show the card of one plug-in; of a model also how to get its weights."""
    registry = Registry(plugin or ())
    makers: dict[Kind, Callable[[], list[Block]]] = {
        Kind.model: lambda: _model(registry.find(ModelCard, name).card, weights),
        Kind.task: lambda: [_task(registry.find(TaskCard, name).card)],
        Kind.data: lambda: [_data(registry.find(DatasetCard, name).card)],
        Kind.method: lambda: [_method(registry.find(MethodCard, name).card)],
        Kind.suite: lambda: _suite(name),
    }
    print_blocks(makers[kind](), console)


def _model(card: ModelCard, weights: Path | None) -> list[Block]:
    facts: Facts = (
        ("paper", card.paper),
        ("can", ", ".join(card.capabilities)),
        ("input", f"{card.input_size} x {card.input_size} pixels" if card.input_size else ""),
        ("texts need", card.text_needs),
        ("trained on", ", ".join(card.trained_on)),
        ("license", describe_license(card)),
        ("open", card.openness),
        ("tested with", ", ".join(card.tested_with)),
        *(("note", note) for note in card.notes),
    )
    return [Block(card.name, card.summary, facts), _how_to_get(card, weights)]


def _how_to_get(card: ModelCard, weights: Path | None) -> Block:
    """The block that tells how to get the weights and how to give them."""
    from g2dbench.pretrained.local_weights import hub_ids

    if not card.needs_weights:
        facts: Facts = (("then", f"g2dbench check-model {card.name}"),)
        return Block("weights", f"none are needed: {card.source}", facts)
    facts = (
        *(("download", f"hf download {name} --local-dir FOLDER") for name in hub_ids(card)),
        ("files", ", ".join(card.files)),
        ("checksum", ", ".join(card.checksum)),
        ("access", "ask the owners first: the weights are given on request" * card.gated),
        ("here", describe_presence(card, weight_folders(weights))),
        ("give", f"--model {_pattern(card)}"),
        ("then", f"g2dbench check-model {card.name}:{_source(card)}"),
    )
    return Block("weights", f"from {card.source}", facts)


def _source(card: ModelCard) -> str:
    """What SOURCE is in `--model NAME:SOURCE`: FILE, FOLDER, ARCH@FILE."""
    kinds = {"file": "FILE", "folder": "FOLDER", "hub": "FOLDER"}
    return card.source_pattern or kinds.get(card.source_kind, "SOURCE")


def _pattern(card: ModelCard) -> str:
    """How `--model` is written for this card."""
    pattern = f"{card.name}:{_source(card)}"
    other = f" or {card.name}:ORGANIZATION/NAME"
    return pattern + (other if card.source_kind == "hub" else "")


def _task(card: TaskCard) -> Block:
    facts: Facts = (
        ("the model must have", " or ".join(card.needs)),
        ("the data must have", " or ".join(card.annotations)),
        ("main metric", card.metric),
        ("protocols", ", ".join(card.protocols)),
        ("training", "fits a head" if card.fits else "none: zero-shot"),
        ("source", card.source),
        ("then", f"g2dbench eval --task {card.name} --protocol {card.protocols[0]}"),
    )
    return Block(card.name, card.summary, facts)


def _data(card: DatasetCard) -> Block:
    root = "" if card.embedded else " --root FOLDER"
    name = " --name MY_NAME" if card.generic else ""
    facts: Facts = (
        ("offers", ", ".join(card.offers)),
        ("findings", ", ".join(card.findings)),
        ("labels", "exactly one finding per image" if card.exclusive else ""),
        ("from", card.url),
        ("license", card.licence),
        ("layout", ", ".join(card.layout)),
        ("options", ", ".join(card.options)),
        ("then", f"g2dbench data prepare {card.name}{root}{name}"),
    )
    return Block(card.name, card.summary, facts)


def _method(card: MethodCard) -> Block:
    from g2dbench.recipes import recipe

    recipes = [name for name in recipe.names() if recipe.load(name).method == card.name]
    facts: Facts = (
        ("paper", card.paper),
        ("its model can", ", ".join(card.capabilities)),
        ("recipes", ", ".join(recipes)),
        ("then", f"g2dbench pretrain --recipe {recipes[0]}" if recipes else ""),
    )
    return Block(card.name, card.summary, facts)


def _suite(name: str) -> list[Block]:
    from g2dbench.evaluation.planning.suite import read_suite

    suite = read_suite(name)
    head = Block(suite.name, suite.summary, (("source", suite.source),))
    rows = [
        Block(
            row.title,
            f"{row.task}:{row.protocol}",
            (
                ("data", ", ".join(row.data)),
                ("fractions", ", ".join(f"{share:g}" for share in row.fractions)),
            ),
        )
        for row in suite.rows
    ]
    return [head, *rows]
