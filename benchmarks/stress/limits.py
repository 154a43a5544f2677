"""A full disk, a read-only folder, few file descriptors, little memory; then none of these."""

import ctypes
import json
import os
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from children import Ended, command
from material import Material, leftovers, scores_in, sha256, torn_cells
from table import Row, Table

NOBODY = 65534


def run(made: Material, table: Table, tries: int) -> None:
    kinds: dict[str, Callable[[], Callable[[], object]]] = {
        "full disk (file size)": lambda: _limit(
            resource.RLIMIT_FSIZE, int(10 ** random.uniform(1, 5.7))
        ),
        "read-only folder": lambda: _read_only,
        "few file descriptors": lambda: _limit(resource.RLIMIT_NOFILE, random.randint(4, 20)),
        "little memory": lambda: _memory(int(10 ** random.uniform(5, 8.3))),
    }
    for name, choose in kinds.items():
        with table.row(name) as row:
            if name.startswith("read-only") and os.getuid() != 0:
                row.notes.append("not tried: it needs root, which then becomes another user")
                continue
            for _ in range(tries):
                for work in (_prepare, _pretrain, _eval):
                    work(made, row, choose())
    with table.row("full disk (tmpfs)") as row:
        _tmpfs(made, row, tries)


def _limit(kind: int, value: int) -> Callable[[], object]:
    return lambda: resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _memory(more: int) -> Callable[[], object]:
    def prepare() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return prepare


def _read_only() -> None:
    """Become a user who may read the folders and write none of them."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _prepare(
    made: Material, row: Row, limit: Callable[[], object] | None, place: Path | None = None
) -> None:
    store = (place or made.base) / "limit-store"
    if place is None:
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
    for prepare in (limit, None):
        _free(place, prepare is None)
        ended = command(made.prepare(made.base / "root", store), prepare).wait()
        _count(row, ended, prepare, "prepare")
        if prepare is None and ended.code:
            row.add("lost", f"prepare, without the limit: {ended.text[-500:]}")
        for path in store.glob("rsna-*/manifest.json"):
            if json.loads(path.read_text())["fingerprint"] != made.reference["root"]:
                row.add("torn", f"a store that lacks images, exit {ended.code}")
    if rest := leftovers(store):
        row.add("lost", f"leftovers {rest}")


def _pretrain(
    made: Material, row: Row, limit: Callable[[], object] | None, place: Path | None = None
) -> None:
    out = (place or made.base) / "limit-run"
    shutil.rmtree(out, ignore_errors=True)
    for prepare in (limit, None):
        _free(place, prepare is None)
        resume = (out / "run.json").is_file()
        if not resume:
            shutil.rmtree(out, ignore_errors=True)
        ended = command(made.pretrain(out, resume), prepare).wait()
        _count(row, ended, prepare, "pretrain")
    if ended.code or sha256(out / "model.safetensors") != made.reference["weights"]:
        row.add("lost", f"pretrain, without the limit: {ended.text[-500:]}")
    if rest := leftovers(out):
        row.add("lost", f"leftovers {rest}")


def _eval(
    made: Material, row: Row, limit: Callable[[], object] | None, place: Path | None = None
) -> None:
    out = (place or made.base) / "limit-results"
    shutil.rmtree(out, ignore_errors=True)
    more: list[Any] = []
    for prepare in (limit, None):
        _free(place, prepare is None)
        ended = command(made.eval(out, *more), prepare).wait()
        _count(row, ended, prepare, "eval")
        for fault in torn_cells(out) if prepare is None else ():
            row.add("torn", fault)
    if ended.code or scores_in(out) != made.reference["scores"]:
        row.add("lost", f"eval, without the limit: exit {ended.code} {ended.text[-500:]}")
    if rest := leftovers(out):
        row.add("lost", f"leftovers {rest}")


def _count(row: Row, ended: Ended, limit: Callable[[], object] | None, what: str) -> None:
    """Count a try, and whether the limit ended it; without a limit nothing is tried."""
    row.ended(ended, what)
    if limit is not None:
        row.tried += 1
        row.stopped += ended.code != 0


def _free(place: Path | None, now: bool) -> None:
    """Fill a small disk up to a random rest, or free it."""
    if place is None:
        return
    filler = place / "filler"
    filler.unlink(missing_ok=True)
    if not now:
        found = os.statvfs(place)
        rest = random.choice((0, 10_000, random.randint(0, 400_000)))
        with filler.open("wb") as file:
            file.write(bytes(max(found.f_bavail * found.f_frsize - rest, 0)))


def _tmpfs(made: Material, row: Row, tries: int) -> None:
    place = made.base / "disk"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    size = 50_000_000 + 2 * sum(path.stat().st_size for path in made.run.rglob("*"))
    if libc.mount(b"none", bytes(place), b"tmpfs", 0, f"size={size}".encode()):
        row.notes.append(f"not tried: no tmpfs can be mounted ({os.strerror(ctypes.get_errno())})")
        return
    try:
        for _ in range(tries):
            for work in (_prepare, _pretrain, _eval):
                shutil.rmtree(place / "limit-store", ignore_errors=True)
                shutil.rmtree(place / "limit-results", ignore_errors=True)
                work(made, row, lambda: None, place)
    finally:
        libc.umount2(bytes(place), 2)
