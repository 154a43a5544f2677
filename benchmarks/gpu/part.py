"""What every part of `make gpu` shares: its options, its time, and its JSON file."""

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Part:
    """Options and results of a part that runs in its own process.

    rows: what has been measured so far; the file holds them after each `add`, so that a part that
    is stopped loses nothing but the measurement under way.
    """

    file: Path
    device: torch.device
    small: bool
    seconds: float
    results: Path
    began: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until the part should end."""
        return self.seconds - (time.perf_counter() - self.began)

    def add(self, **row: Any) -> None:
        """Print and store one measurement."""
        self.rows.append(row)
        print("  " + ", ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)
        self.write()

    def tell(self, **facts: Any) -> None:
        """Print and store values of the whole part."""
        self.facts |= facts
        print("  " + ", ".join(f"{k} {_short(v)}" for k, v in facts.items()), flush=True)
        self.write()

    def write(self) -> None:
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps({"facts": self.facts, "rows": self.rows}, indent=1))
        os.replace(partial, self.file)

    def attempt(self, name: str, work: Callable[[], object], needed: float) -> None:
        """Do a measurement if its time is left; a failure becomes a row and stops no other."""
        if self.left < needed:
            self.add(name=name, error=f"not measured: {self.left:.0f} s left, {needed:.0f} needed")
            return
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            self.add(name=name, error=f"{type(error).__name__}: {error}"[:400])
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def start(description: str | None) -> Part:
    """The part that the command line describes; an interpreter without CUDA ends here."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--file", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--results", type=Path, required=True, help="folder of all JSON files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--small", action="store_true", help="a trial of the program on the CPU")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no CUDA device: --device cpu --small")
    return Part(args.file, device, args.small, args.seconds, args.results)
