"""`g2dbench doctor`: a report on this machine, and on what each task still needs."""

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.cli.console import console
from g2dbench.cli.options import DEFAULT_STORE, Store
from g2dbench.cli.panels import LOOK
from g2dbench.registry import Registry
from g2dbench.system.counts import counted

RUNS, RESULTS = Path("runs"), Path("results")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LOOK)(doctor)


def doctor(store: Store = DEFAULT_STORE) -> None:
    """Report Python, packages, device, precision, disk, prepared data, and what each task needs.

    Exit code 1 if a run or an installed plug-in is broken.
    """
    from g2dbench.runs.folder import scan_runs

    registry = Registry()
    prepared = _prepared(store)
    console.print(_pairs("machine", _machine(store)))
    console.print(_pairs("packages", _packages()))
    console.print(_pairs("prepared data", prepared or [("none", f"in {store}")]))
    console.print(_pairs("tasks", _tasks(registry, {name for name, _ in prepared})))
    if problems := [*registry.problems, *scan_runs(RUNS)[1]]:
        console.print(_pairs("problems", [("left out", problem) for problem in problems]))
        raise typer.Exit(1)


def _pairs(title: str, pairs: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(escape(name), escape(text))
    return table


def _machine(store: Path) -> list[tuple[str, str]]:
    import torch

    from g2dbench.system.device import choose_device, native_bf16
    from g2dbench.system.environment import hardware

    device = choose_device("auto")
    fast = "bf16 in hardware" if native_bf16(device) else "no bf16 in hardware, so fp32"
    return [
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("device", f"{device}: {hardware(device)}"),
        ("precision", f"auto = {'bf16' if native_bf16(device) else 'fp32'} ({fast})"),
        ("threads", f"torch uses {torch.get_num_threads()}"),
        *_disks(store),
    ]


def _disks(store: Path) -> Iterator[tuple[str, str]]:
    for name, folder in (("disk here", Path.cwd()), ("disk of the store", store)):
        present = next(place for place in (folder, *folder.parents) if place.exists())
        yield name, f"{shutil.disk_usage(present).free / 2**30:.1f} GiB free at {present}"


def _packages() -> list[tuple[str, str]]:
    from g2dbench.system.environment import package_versions

    return list(package_versions().items())


def _prepared(store: Path) -> list[tuple[str, str]]:
    from g2dbench.data.prepared_stores import stores_in

    return [
        (data.card.name, f"{counted(len(data), 'image')} at {data.size} px, {data.folder}")
        for data in stores_in(store)
    ]


def _tasks(registry: Registry, prepared: set[str]) -> list[tuple[str, str]]:
    from g2dbench.runs.folder import newest_run

    run = newest_run(RUNS)
    lines = [("a model", f"newest run {run}" if run else "no run: `g2dbench pretrain` makes one")]
    for card in registry.cards(TaskCard):
        usable = [d for d in registry.cards(DatasetCard) if set(card.annotations) & set(d.offers)]
        ready = [d.name for d in usable if d.embedded or d.name in prepared]
        lacking = [d.name for d in usable if d.name not in ready]
        missing = f"; to prepare: {', '.join(lacking)}" if lacking else ""
        lines.append((card.name, f"ready on {', '.join(ready) or 'nothing'}{missing}"))
    return lines
