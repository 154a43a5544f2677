"""The cost of each model at its published size: `python benchmarks/model_cost.py [MODEL ...]`.

Weights are random: they do not change the cost. Each model is measured by `g2dbench profile`, all
in one worker process, which a model over its time limit ends. Prints one row for each model;
--write puts the rows into docs/baselines.md.
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from g2dbench.cards import ModelCard
from g2dbench.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "baselines.md"
START, END = "<!-- costs: python benchmarks/model_cost.py --write -->", "<!-- end of costs -->"
HEAD = ("model", "image encoder", "side", "parameters", "GFLOP per image", "images/s", "texts/s")
PASSES, MAX_SECONDS = 1, 600

sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help="default: all")
    parser.add_argument("--write", action="store_true", help="put the rows into the page")
    args = parser.parse_args()
    for name in args.models or [card.name for card in Registry().cards(ModelCard)]:
        found = measure(name)
        print(found, flush=True)
        if args.write:  # after each model, so that an interruption loses nothing
            page = PAGE.read_text(encoding="utf-8")
            PAGE.write_text(filled(page, {name: found}), encoding="utf-8")
    for worker in WORKERS:
        worker.shutdown()


WORKERS: list[ProcessPoolExecutor] = []


def measure(name: str) -> str:
    """The row of a model: its cost, or why it was not measured."""
    from support.models.official import OFFICIAL

    if name == "embeddings":
        return row(name, "none: nothing is computed from images", *5 * ("",))
    if name not in OFFICIAL:
        return row(name, "not measured: its published size is not listed", *5 * ("",))
    size = OFFICIAL[name].size
    if not WORKERS:  # spawned once, since its imports take longer than most measurements
        WORKERS.append(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
    try:
        cost = WORKERS[0].submit(profile, name).result(timeout=MAX_SECONDS)
    except TimeoutError:
        stop()
        return row(name, size, f"not measured: over {MAX_SECONDS} s", *4 * ("",))
    except BrokenProcessPool:
        WORKERS.clear()
        return row(name, size, "not measured: the memory ran out", *4 * ("",))
    if isinstance(cost, str):
        return row(name, size, f"not measured: {cost}", *4 * ("",))
    return row(
        name,
        size,
        str(cost["image_size"]),
        f"{cost['weights'] / 1e6:.1f} M",
        f"{cost['gflop_per_image']:.3g}",
        f"{cost['images_per_s']:.2g}",
        f"{cost['texts_per_s']:.2g}" if cost["texts_per_s"] else "-",
    )


def stop() -> None:
    """End the worker process, also in the middle of a measurement."""
    for worker in WORKERS:
        for process in worker._processes.values():
            process.kill()
    WORKERS.clear()


def profile(name: str) -> dict[str, Any] | str:
    """What `g2dbench profile --json` writes of a model, or its message if it fails."""
    from support.models.official import OFFICIAL
    from typer.testing import CliRunner

    from g2dbench.cli import app

    with tempfile.TemporaryDirectory() as folder:
        source = OFFICIAL[name].write(Path(folder) / "model")
        costs = Path(folder) / "costs.json"
        words = [
            "profile", "--device", "cpu", "--precision", "fp32", "--batch-size", "1",
            "--steps", str(PASSES), "--json", str(costs),
            "--model", name if source is None else f"{name}:{source}",
        ]  # fmt: skip
        done = CliRunner().invoke(app, words)
        if done.exit_code != 0:
            return " ".join((done.output or repr(done.exception)).split())[-300:]
        (cost,) = json.loads(costs.read_text(encoding="utf-8"))
    return dict(cost)


def row(*cells: str) -> str:
    return f"| `{cells[0]}` | {' | '.join(cells[1:])} |"


def filled(page: str, rows: dict[str, str]) -> str:
    """The page with these rows in place of those of the same models, sorted by name."""
    before, _, rest = page.partition(START)
    old, _, after = rest.partition(END)
    known = {line.split("`")[1]: line for line in old.splitlines() if line.startswith("| `")}
    lines = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    lines += [line for _, line in sorted((known | rows).items())]
    table = "\n".join(lines)
    return f"{before}{START}\n\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    main()
