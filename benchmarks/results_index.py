"""Measures `leaderboard` and `regress` over many results, without and with their index.

    python benchmarks/results_index.py [--results 100000] [--scores 56] [--folder DIR]

The results are simulated: 20 models, 12 tasks, 5 data sets, 3 fractions, and seeds. Each is a file
of the size that a real cell has (56 scores, as classification with 14 findings: 12 KB). Each
command is a process of its own: "cold" has no index and builds it, "warm" finds it, "1 % new" finds
an index in which every hundredth result is missing. Times are wall clock and CPU. The disk cache is
warm in all of them, because only an administrator can empty it. The results are deleted in the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import count, islice, product
from pathlib import Path

from g2dbench.reporting.result_index import INDEX_FILE, SETTLED_SECONDS
from g2dbench.result import Cell, Provenance, Result, Score

MODELS, TASKS, DATA, FRACTIONS = 20, 12, 5, (0.01, 0.1, 1.0)
FINDINGS = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=100_000)
    parser.add_argument("--scores", type=int, default=56)
    parser.add_argument("--folder", type=Path, help="where the results are simulated (/tmp)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="g2dbench-results-") as name:
        folder = Path(name, "results")
        seconds = simulate(folder, args.results, args.scores)
        print(f"{args.results:,} results of {args.scores} scores made in {seconds:.0f} s")
        time.sleep(SETTLED_SECONDS + 1)
        measure(folder)


def measure(folder: Path) -> None:
    index = folder / INDEX_FILE
    board = ["leaderboard", str(folder), "--format", "csv"]
    run("leaderboard, cold", board)
    print(f"the index has {index.stat().st_size / 2**20:.1f} MiB")
    run("leaderboard, warm", board)
    run("regress against itself, warm", ["regress", str(folder), "--baseline", str(folder)])
    for at, path in enumerate(sorted(folder.rglob("result.json"))):
        if at % 100 == 0:
            path.touch()
    run("leaderboard, 1 % new", board)


def run(name: str, command: list[str]) -> None:
    """Run a command of g2dbench and print its time and its peak of memory."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "g2dbench", *command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = process.stdout.read().count(b"\n")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    print(
        f"{name}: {seconds:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of CPU, "
        f"{usage.ru_maxrss / 2**10:.0f} MiB, exit code {os.waitstatus_to_exitcode(status)}, "
        f"{lines} lines"
    )


def simulate(folder: Path, results: int, scores: int) -> float:
    """Write results in the layout TASK/DATA/MODEL/CELL/result.json; returns the seconds."""
    began = time.perf_counter()
    grid = (
        (*cell, seed)
        for seed in count()
        for cell in product(range(MODELS), range(TASKS), range(DATA), FRACTIONS)
    )
    for number, (model, task, data, fraction, seed) in enumerate(islice(grid, results)):
        place = folder / f"task{task}" / f"data{data}" / f"model{model}"
        place = place / f"probe-f{fraction:g}-s{seed}-{number:08x}"
        place.mkdir(parents=True)
        text = simulated(number, model, task, data, fraction, seed, scores).model_dump_json(
            indent=1
        )
        (place / "result.json").write_text(text, encoding="utf-8")
    return time.perf_counter() - began


def simulated(
    number: int, model: int, task: int, data: int, fraction: float, seed: int, scores: int
) -> Result:
    """One finished cell."""
    value = (number * 7919 % 1000) / 1000
    score = Score(value=value, low=value - 0.1, high=value + 0.1, n=5000, bearers=2000)
    origin = Provenance(
        version="0.1.0",
        commit="0" * 40,
        weights=f"{model:064x}",
        source=f"model{model}",
        data=f"{data:064x}",
        subset=f"{seed:064x}",
        predictions=f"{number:064x}",
        config={"protocol": {"lr": 1e-3, "epochs": 50}, "task_code": f"{task:064x}"},
        packages=dict.fromkeys(("torch", "numpy", "timm", "transformers", "pyarrow"), "1.2.3"),
        hardware="NVIDIA H200",
        seconds=12.5,
        created=f"2026-01-01T00:00:{number % 60:02d}+00:00",
    )
    cell = Cell(
        model=f"model{model}", task=f"task{task}", data=f"data{data}", protocol="probe",
        fraction=fraction, seed=seed,
    )  # fmt: skip
    names = [f"metric{at // FINDINGS}:finding {at % FINDINGS}" for at in range(scores - 1)]
    labels = {f"finding {at}": {"positive": at, "negative": 5000 - at} for at in range(FINDINGS)}
    return Result(
        cell=cell, status="done", metric="auc", scores=dict.fromkeys(["auc", *names], score),
        counts={"train": 100, "valid": 50, "test": 5000},
        details={"labels": json.loads(json.dumps(labels))}, provenance=origin,
    )  # fmt: skip


if __name__ == "__main__":
    main()
