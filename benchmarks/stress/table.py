"""The table that `make stress` prints: what was tried, and what went wrong."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

COLUMNS = ("tried", "lost", "torn", "traceback", "executed", "fetched")


@dataclass
class Row:
    """lost: finished work that is gone or other than without the fault. torn: a mixture that a
    reader sees. traceback: an end without a sentence. executed, fetched: by a stranger's file.
    """

    name: str
    tried: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in COLUMNS[1:]})
    stopped: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str) -> None:
        self.faults[kind].append(what)

    def ended(self, ended: "object", what: str) -> None:
        """Count an end without a sentence, and what the command asked for."""
        for kind in ("executed", "fetched"):
            for event in ended.events:  # type: ignore[attr-defined]
                if event.startswith(kind):
                    self.add(kind, f"{what}: {event[:200]}")
        if ended.is_traceback:  # type: ignore[attr-defined]
            text = ended.text[-1500:]  # type: ignore[attr-defined]
            code = f"exit {ended.code} signal {ended.signal}"  # type: ignore[attr-defined]
            self.add("traceback", f"{what}: {code}: {text}")

    @property
    def is_clean(self) -> bool:
        return not any(self.faults.values())


class Table:
    """The rows, printed as they are done."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        head = "".join(f"{name:>10}" for name in COLUMNS)
        print(f"{'':34}{head}{'seconds':>9}", flush=True)

    @contextmanager
    def row(self, name: str) -> Iterator[Row]:
        row, began = Row(name), time.monotonic()
        yield row
        row.seconds = time.monotonic() - began
        self.rows.append(row)
        counts = [row.tried, *(len(found) for found in row.faults.values())]
        line = "".join(f"{count:>10,}" for count in counts)
        print(f"{row.name:34}{line}{row.seconds:>9.0f}", flush=True)
        if row.stopped:
            print(f"    (the limit ended {row.stopped} of them)", flush=True)
        for note in row.notes:
            print(f"    ({note})", flush=True)

    def finish(self, folder: str) -> int:
        """Print the faults; 1 if there are any."""
        faulty = [row for row in self.rows if not row.is_clean]
        for row in faulty:
            for kind, found in row.faults.items():
                for what in found[:3]:
                    print(f"\n{row.name}: {kind}: {what}")
        if faulty:
            print(f"\nnot clean: {', '.join(row.name for row in faulty)}; material in {folder}")
        return 1 if faulty else 0
