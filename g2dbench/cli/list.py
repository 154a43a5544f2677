"""`g2dbench list models|tasks|data|recipes|methods`: cards only, nothing is imported or loaded."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from g2dbench.cards import DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli.console import console
from g2dbench.cli.options import Plugins
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
    app.command("list", epilog="Example: g2dbench list models")(list_)


def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    plugin: Plugins = None,
) -> None:
    """List what there is: models, tasks, data sets, recipes, methods."""
    if kind is Kind.recipes:
        console.print(_recipes())
        return
    registry = Registry(plugin or ())
    tables = {
        Kind.models: lambda: _models(registry.cards(ModelCard)),
        Kind.tasks: lambda: _tasks(registry.cards(TaskCard)),
        Kind.data: lambda: _data(registry.cards(DatasetCard)),
        Kind.methods: lambda: _methods(registry.cards(MethodCard)),
    }
    console.print(tables[kind]())


def _table(*headings: str) -> Table:
    table = Table(padding=(0, 1, 0, 0))
    table.add_column(headings[0], no_wrap=True, style="bold")
    for heading in headings[1:]:
        table.add_column(heading, overflow="fold")
    return table


def _models(found: list[ModelCard]) -> Table:
    table = _table("model", "what it is", "can", "weights", "licence")
    for card in found:
        how = f":{card.source_kind.upper()}" if card.needs_weights else "none"
        table.add_row(card.name, card.summary, ", ".join(card.capabilities), how, card.licence)
    return table


def _tasks(found: list[TaskCard]) -> Table:
    table = _table("task", "what it measures", "needs", "on", "protocols", "metric")
    for card in found:
        table.add_row(
            card.name,
            card.summary,
            " or ".join(card.needs),
            " or ".join(card.annotations),
            ", ".join(card.protocols),
            card.metric,
        )
    return table


def _data(found: list[DatasetCard]) -> Table:
    table = _table("data", "what it is", "offers", "where", "licence")
    for card in found:
        where = "embedded" if card.embedded else card.url
        table.add_row(card.name, card.summary, ", ".join(card.offers), where, card.licence)
    return table


def _methods(found: list[MethodCard]) -> Table:
    table = _table("method", "what it is", "its models can", "paper")
    for card in found:
        table.add_row(card.name, card.summary, ", ".join(card.capabilities), card.paper)
    return table


def _recipes() -> Table:
    from g2dbench.recipes import recipe

    table = _table("recipe", "method", "what it is for")
    for name in recipe.names():
        loaded = recipe.load(name)
        table.add_row(loaded.name, loaded.method, loaded.summary)
    return table
