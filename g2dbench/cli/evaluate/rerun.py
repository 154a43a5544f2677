"""`g2dbench rerun`: the command that repeats a row of the leaderboard."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from g2dbench.cli.options import DEFAULT_STORE, Store
from g2dbench.cli.panels import EVALUATE

EPILOG = """Examples:

g2dbench rerun results/zeroshot/rsna/biovil/g2d-zero-s0-1a2b3c4d/result.json

g2dbench rerun --run --out again results/zeroshot/rsna/biovil/g2d-zero-s0-1a2b3c4d

Without --run the command is printed, and what differs in this installation. Read it before you run
the result of a stranger: a model or a plug-in file in it is code.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, rich_help_panel=EVALUATE)(rerun)


def rerun(
    result: Annotated[Path, typer.Argument(help="A result file or its folder.")],
    run: Annotated[bool, typer.Option("--run", help="Run the command.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the new result.")] = Path("rerun"),
    store: Store = DEFAULT_STORE,
) -> None:
    """Print the command that repeats a result, or run it."""
    from g2dbench.evaluation.outcome import provenance
    from g2dbench.reporting.markup import one_line
    from g2dbench.reporting.reproduction import command_of, differences
    from g2dbench.result import RESULT_FILE, load
    from g2dbench.system.machine import Machine

    found = load(result / RESULT_FILE if result.is_dir() else result)
    words = [*command_of(found), "--out", str(out)]
    if store != DEFAULT_STORE:
        words += ["--store", str(store)]
    typer.echo(one_line(shlex.join(["g2dbench", *words])))
    machine = Machine.choose("cpu", found.cell.precision)
    now = provenance(machine, weights="", data="", subset="")
    for line in differences(found.provenance, now):
        typer.echo(one_line(f"differs: {line}"), err=True)
    if run:
        raise typer.Exit(subprocess.run([sys.executable, "-m", "g2dbench", *words]).returncode)
