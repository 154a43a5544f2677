"""SIGKILL at a random moment, again and again, and then once to the end."""

import json
import random
import shutil
from pathlib import Path

from children import call, command
from material import Material, leftovers, scores_in, sha256, torn_cells
from table import Row, Table


def run(made: Material, table: Table, tries: int) -> None:
    with table.row("SIGKILL in prepare") as row:
        _prepare(made, row, tries)
    with table.row("SIGKILL in pretrain") as row:
        _pretrain(made, row, tries)
    with table.row("SIGKILL in eval") as row:
        _eval(made, row, tries, ())
    with table.row("SIGKILL in eval --rerun") as row:
        _eval(made, row, tries, ("--rerun",))


def _verify(store: Path) -> str:
    from g2dbench.data.store.store import Store
    from g2dbench.data.store.verify import verify
    from g2dbench.progress import quiet

    verify(Store(store), quiet)
    return Store(store).fingerprint


def _prepare(made: Material, row: Row, tries: int) -> None:
    """The source changes after each complete preparation, so that a store is replaced too."""
    place = made.base / "kill-prepare"
    source, store = place / "root", place / "store"
    names = ["root", "root-more"]
    shutil.copytree(made.base / names[0], source)
    fingerprints = [made.reference[name] for name in names]
    seconds = made.reference["prepare seconds"]
    complete, starts = False, 0
    while row.tried < tries:
        last, starts = starts % 5 == 4, starts + 1
        ended = command(made.prepare(source, store)).wait(
            None if last else random.random() * 1.1 * seconds
        )
        stores = [path for path in store.glob("rsna-*") if path.is_dir()]
        if complete and not stores:
            row.add("lost", "a complete store is gone")
        for path in stores:
            if (found := call(_verify, path)) not in fingerprints:
                row.add("torn", f"the fingerprint {found}")
            complete = True
        if ended.signal:
            row.tried += 1
            continue
        row.ended(ended, "prepare")
        if call(_verify, stores[0]) != made.reference[names[0]]:
            row.add("lost", "another store than without kills")
        if rest := leftovers(store):
            row.add("lost", f"leftovers {rest}")
        names.reverse()
        shutil.rmtree(source)
        shutil.copytree(made.base / names[0], source)


def _newest(out: Path) -> tuple[int, str]:
    """Step of the newest checkpoint, and what is wrong with it."""
    found = sorted((out / "checkpoints").glob("step-*.pt"))
    if not found:
        return 0, ""
    _, step, digest = found[-1].stem.split("-")
    return int(step), "" if sha256(found[-1]).startswith(digest) else f"{found[-1]} is broken"


def _pretrain(made: Material, row: Row, tries: int) -> None:
    out, seconds = made.base / "kill-pretrain", made.reference["pretrain seconds"]
    step = starts = 0
    while row.tried < tries:
        resume = (out / "run.json").is_file()
        if not resume:
            shutil.rmtree(out, ignore_errors=True)
            step = 0
        last, starts = starts % 7 == 6, starts + 1
        ended = command(made.pretrain(out, resume)).wait(
            None if last else random.random() * 1.1 * seconds
        )
        before, (step, fault) = step, _newest(out)
        if fault:
            row.add("torn", fault)
        if step < before:
            row.add("lost", f"the checkpoint of step {before}: the newest is {step}")
        if ended.signal:
            row.tried += 1
            continue
        row.ended(ended, "pretrain")
        if ended.code or sha256(out / "model.safetensors") != made.reference["weights"]:
            row.add("lost", f"other weights than without kills, exit {ended.code}: {ended.text}")
        if json.loads((out / "run.json").read_text())["status"] != "complete":
            row.add("torn", "run.json")
        if rest := leftovers(out):
            row.add("lost", f"leftovers {rest}")
        shutil.rmtree(out)
        step = 0


def _eval(made: Material, row: Row, tries: int, options: tuple[str, ...]) -> None:
    out = made.base / ("kill-rerun" if options else "kill-eval")
    seconds, reference = made.reference["eval seconds"], made.reference["scores"]
    if options:
        shutil.copytree(made.results, out)
    done, starts = set(scores_in(out)), 0
    while row.tried < tries:
        last, starts = starts % 5 == 4, starts + 1
        ended = command(made.eval(out, *options)).wait(
            None if last else random.random() * 1.1 * seconds
        )
        for fault in torn_cells(out):
            row.add("torn", fault)
        found = scores_in(out)
        if lost := done - set(found):
            row.add("lost", f"finished cells {lost}")
        if wrong := [name for name, scores in found.items() if scores != reference.get(name)]:
            row.add("lost", f"other scores than without kills: {wrong}")
        done = set(found)
        if ended.signal:
            row.tried += 1
            continue
        row.ended(ended, "eval")
        if ended.code or found != reference:
            row.add("lost", f"exit {ended.code}: {ended.text[-500:]}")
        if rest := leftovers(out):
            row.add("lost", f"leftovers {rest}")
        if not options:
            shutil.rmtree(out)
            shutil.rmtree(made.base / "cache", ignore_errors=True)
            done = set()
