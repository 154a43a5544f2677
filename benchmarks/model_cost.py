"""The cost of each model at its published size: `python benchmarks/model_cost.py [MODEL ...]`.

Weights are random: they do not change the cost. Each model is measured by `g2dbench profile` in a
process of its own. Prints one row for each model; --write puts the table into docs/baselines.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from g2dbench.cards import ModelCard
from g2dbench.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "baselines.md"
START, END = "<!-- costs: python benchmarks/model_cost.py --write -->", "<!-- end of costs -->"
HEAD = ("model", "image encoder", "side", "parameters", "GFLOP per image", "images/s", "texts/s")
PASSES, MAX_SECONDS = 2, 420

sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help="default: all")
    parser.add_argument("--write", action="store_true", help="put the rows into the page")
    args = parser.parse_args()
    names = args.models or [card.name for card in Registry().cards(ModelCard)]
    rows: dict[str, str] = {}
    for name in names:
        rows[name] = measure(name)
        print(rows[name], flush=True)
        if args.write:  # after each model, so that an interruption loses nothing
            PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")


def measure(name: str) -> str:
    """The row of a model: its cost, or why it was not measured."""
    from support.models.official import OFFICIAL

    if name not in OFFICIAL:
        return row(name, "not measured: no source of its published size", *5 * ("",))
    official = OFFICIAL[name]
    with tempfile.TemporaryDirectory() as folder:
        source = write_source(name, Path(folder) / "model")
        model = name if source is None else f"{name}:{source}"
        costs = Path(folder) / "costs.json"
        command = [
            sys.executable, "-m", "g2dbench", "profile", "--device", "cpu", "--precision", "fp32",
            "--batch-size", str(official.batch), "--steps", str(PASSES), "--json", str(costs),
            "--model", model,
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired:
            return row(name, official.size, f"not measured: over {MAX_SECONDS} s", *4 * ("",))
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            sys.stderr.write(done.stderr[-3000:])
            return row(name, official.size, f"not measured: {' '.join(last)}", *4 * ("",))
        (cost,) = json.loads(costs.read_text(encoding="utf-8"))
    return row(
        name,
        official.size,
        str(cost["image_size"]),
        f"{cost['weights'] / 1e6:.1f} M",
        f"{cost['gflop_per_image']:.3g}",
        f"{cost['images_per_s']:.2g}",
        f"{cost['texts_per_s']:.2g}" if cost["texts_per_s"] else "-",
    )


def write_source(name: str, folder: Path) -> str | None:
    """The model's source, written in a process whose memory is free afterwards."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(write_here, name, folder).result()


def write_here(name: str, folder: Path) -> str | None:
    from support.models.official import OFFICIAL

    source = OFFICIAL[name].write(folder)
    return None if source is None else str(source)


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
