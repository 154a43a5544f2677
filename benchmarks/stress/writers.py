"""Several processes write one results folder, one store or one run at the same time."""

import json
import random
import shutil

from children import command
from material import Material, leftovers, scores_in, sha256, torn_cells
from table import Row, Table

BUSY = 75


def run(made: Material, table: Table, numbers: list[int]) -> None:
    with table.row(f"{numbers[0]} to {numbers[-1]} writers of results") as row:
        for count in numbers:
            for options in ((), ("--rerun",)):
                _results(made, row, count, options)
    with table.row(f"{numbers[0]} to {numbers[-1]} writers of a store") as row:
        for count in numbers:
            _store(made, row, count)
    with table.row(f"{numbers[0]} to {numbers[-1]} writers of a run") as row:
        for count in numbers:
            _run(made, row, count)


def _results(made: Material, row: Row, count: int, options: tuple[str, ...]) -> None:
    out = made.base / "many-results"
    shutil.rmtree(out, ignore_errors=True)
    if options:
        shutil.copytree(made.results, out)
    running = [command(made.eval(out, *options)) for _ in range(count)]
    for child in running:
        row.tried += 1
        ended = child.wait()
        row.ended(ended, f"eval of {count}")
        if ended.code:
            row.add("lost", f"exit {ended.code}: {ended.text[-500:]}")
    for fault in torn_cells(out):
        row.add("torn", fault)
    if scores_in(out) != made.reference["scores"]:
        row.add("lost", "other scores than of one writer")
    if rest := leftovers(out):
        row.add("lost", f"leftovers {rest}")


def _store(made: Material, row: Row, count: int) -> None:
    store = made.base / "many-stores"
    shutil.rmtree(store, ignore_errors=True)
    running = [command(made.prepare(made.base / "root", store)) for _ in range(count)]
    for child in running:
        row.tried += 1
        ended = child.wait()
        row.ended(ended, f"prepare of {count}")
        if ended.code:
            row.add("lost", f"exit {ended.code}: {ended.text[-500:]}")
    (manifest,) = store.glob("rsna-*/manifest.json")
    if json.loads(manifest.read_text())["fingerprint"] != made.reference["root"]:
        row.add("torn", "another store than of one writer")
    if rest := leftovers(store):
        row.add("lost", f"leftovers {rest}")


def _run(made: Material, row: Row, count: int) -> None:
    """Start a run `count` times, kill it, and resume it `count` times."""
    out = made.base / "many-runs"
    shutil.rmtree(out, ignore_errors=True)
    for resume in (False, True):
        if resume:
            shutil.rmtree(out)
            while not list((out / "checkpoints").glob("step-*")):
                shutil.rmtree(out, ignore_errors=True)
                child = command(made.pretrain(out, False))
                child.wait((0.4 + 0.5 * random.random()) * made.reference["pretrain seconds"])
        running = [command(made.pretrain(out, resume)) for _ in range(count)]
        ends = [child.wait() for child in running]
        row.tried += count
        for ended in ends:
            row.ended(ended, f"pretrain of {count}")
        codes = sorted(ended.code or 0 for ended in ends)
        # A late one finds a complete run: done with --resume, a wrong request without.
        allowed = {0, BUSY} if resume else {0, BUSY, 2}
        if codes[0] != 0 or not set(codes) <= allowed or (not resume and codes.count(0) != 1):
            row.add("lost", f"exit codes {codes}")
        if sha256(out / "model.safetensors") != made.reference["weights"]:
            row.add("torn", f"other weights than of one writer, resume {resume}")
