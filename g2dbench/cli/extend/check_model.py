"""`g2dbench check-model`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from g2dbench.cli.console import console
from g2dbench.cli.options import Device, Plugins
from g2dbench.cli.panels import EXTEND
from g2dbench.system.counts import counted

if TYPE_CHECKING:
    from g2dbench.conformance.checks import CheckResult

EPILOG = """Examples:

g2dbench check-model my_model.py

g2dbench check-model my_model:weights.pt --plugin my_model.py

g2dbench check-model biovil:~/weights/biovil

Exit code: 0 if all checks passed, 1 if one failed.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check-model", epilog=EPILOG, rich_help_panel=EXTEND)(check_model)


def check_model(
    model: Annotated[
        str,
        typer.Argument(
            help="NAME, NAME:SOURCE, run folder, weights file or plug-in file.",
            show_default=False,
        ),
    ],
    device: Device = "auto",
    plugin: Plugins = None,
) -> None:
    """Check that a model keeps the contract: shapes, determinism, preprocessing, card, errors."""
    from g2dbench.conformance.checks import check_reference
    from g2dbench.evaluation.model_reference import resolve
    from g2dbench.registry import Registry
    from g2dbench.system.device import choose_device

    registry = Registry(plugin or ())
    reference = resolve(model, registry)
    results = []
    for result in check_reference(reference, registry, choose_device(device)):
        results.append(result)
        _print(result)
    failed = sum(bool(result.faults) for result in results)
    passed = sum(not result.faults and not result.skipped for result in results)
    seconds = sum(result.seconds for result in results)
    console.print(
        f"{counted(passed, 'check')} passed, {failed} failed, "
        f"{len(results) - passed - failed} not needed, {seconds:.0f} s"
    )
    if failed:
        raise typer.Exit(1)


def _print(result: "CheckResult") -> None:
    if result.skipped:
        console.print(f"[dim]-    {result.name}: {escape(result.skipped)}[/]", soft_wrap=True)
    elif not result.faults:
        console.print(f"[green]ok[/]   {result.name}  [dim]{result.seconds:.1f} s[/]")
    for sentence in result.faults:
        console.print(f"[red]fail[/] {result.name}: {escape(sentence)}", soft_wrap=True)
