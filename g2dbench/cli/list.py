"""`g2dbench list models|tasks|data|recipes|methods`: cards only, nothing is imported or loaded."""

from enum import StrEnum
from typing import Annotated

import typer

from g2dbench.cards import DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli.blocks import Block, show
from g2dbench.cli.console import console
from g2dbench.cli.options import Plugins
from g2dbench.cli.panels import LOOK
from g2dbench.registry import Registry


class Kind(StrEnum):
    """What can be listed."""

    models = "models"
    tasks = "tasks"
    data = "data"
    recipes = "recipes"
    methods = "methods"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog="Example: g2dbench list models", rich_help_panel=LOOK)(list_)


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    plugin: Plugins = None,
) -> None:
    """List the available models, tasks, data sets, recipes or methods."""
    registry = Registry(plugin or ())
    makers = {
        Kind.models: lambda: [_model(card) for card in registry.cards(ModelCard)],
        Kind.tasks: lambda: [_task(card) for card in registry.cards(TaskCard)],
        Kind.data: lambda: [_data(card) for card in registry.cards(DatasetCard)],
        Kind.methods: lambda: [_method(card) for card in registry.cards(MethodCard)],
        Kind.recipes: _recipes,
    }
    show(makers[kind](), console)


_SOURCES = {"file": "a file", "folder": "a folder", "hub": "a folder or a hub id", "": "a source"}
"""What stands after the colon of `--model NAME:SOURCE`, by the card's source_kind."""


def _model(card: ModelCard) -> Block:
    facts = (
        ("can", ", ".join(card.capabilities)),
        ("takes", _SOURCES[card.source_kind] if card.needs_weights else "nothing"),
        ("weights", card.source),
        ("licence", card.licence),
        ("trained on", ", ".join(card.trained_on)),
    )
    return Block(card.name, card.summary, facts)


def _task(card: TaskCard) -> Block:
    facts = (
        ("the model must have", " or ".join(card.needs)),
        ("the data must have", " or ".join(card.annotations)),
        ("metric", card.metric),
        ("protocols", ", ".join(card.protocols)),
    )
    return Block(card.name, card.summary, facts)


def _data(card: DatasetCard) -> Block:
    where = "drawn by g2dbench" if card.embedded else card.url.removeprefix("https://")
    facts = (("offers", ", ".join(card.offers)), ("from", where), ("licence", card.licence))
    return Block(card.name, card.summary, facts)


def _method(card: MethodCard) -> Block:
    facts = (("its models", ", ".join(card.capabilities)), ("paper", card.paper))
    return Block(card.name, card.summary, facts)


def _recipes() -> list[Block]:
    from g2dbench.recipes import recipe

    loaded = [recipe.load(name) for name in recipe.names()]
    return [Block(each.name, each.summary, (("method", each.method),)) for each in loaded]
