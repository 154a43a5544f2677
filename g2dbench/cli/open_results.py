"""Results that commands read and write: a folder, or an address such as s3://bucket/results.

Cells at an address have copies in a folder of this machine: `G2DBENCH_REMOTE`, by default
~/.cache/g2dbench-remote.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from g2dbench.cli.console import console
from g2dbench.errors import Misuse
from g2dbench.system.counts import counted
from g2dbench.system.files import address_of

if TYPE_CHECKING:
    from g2dbench.evaluation.sweep.remote_cells import RemoteCells


def open_results(results: Path) -> tuple[Path, list[str]]:
    """The folder of results, of an address that of their copies, which are brought up to date.

    Also a sentence for each object at the address that is no cell.
    """
    if (address := address_of(results)) is None:
        return results, []
    cells = _open(address)
    problems = cells.mirror()
    if unsent := cells.unsent():
        note = f"{counted(unsent, 'cell')} of this machine could not be written to {address} yet"
        typer.echo(f"{note}: the same evaluation sends them", err=True)
    return cells.folder, problems


def open_output(out: Path) -> tuple[Path, str | None]:
    """The folder that cells are written to, and the address of the store that keeps them, if any.

    The cells of the store are fetched first, so that they are on disk.
    """
    from g2dbench.evaluation.sweep.grid import check_writable

    if (address := address_of(out)) is None:
        check_writable(out)
        return out, None
    cells = _open(address)
    check_writable(cells.folder)
    for problem in cells.mirror():
        console.print(f"left out: {problem}", soft_wrap=True, markup=False)
    return cells.folder, address


def local_only(results: Path, option: str) -> None:
    """Raise Misuse if an option that changes results is given with an address."""
    if (address := address_of(results)) is not None:
        raise Misuse(
            f"{option} writes into a folder, and {address} is none: copy the results to a folder "
            "first (`g2dbench merge FOLDER ...`)"
        )


def _open(address: str) -> "RemoteCells":
    from g2dbench.evaluation.sweep.remote_cells import copies_folder, open_remote_cells

    place = Path(os.environ.get("G2DBENCH_REMOTE") or "~/.cache/g2dbench-remote").expanduser()
    return open_remote_cells(address, copies_folder(place, address).resolve())
