"""Can the bench tell, and do pseudo masks pay? `python -m benchmarks.gpu_study`.

Draws radiographs, trains the arms of `plan.py` several at a time, evaluates them with the
project's own tasks, and prints tables. It stops after `--minutes`; rows are appended to
OUT/results.jsonl as they come, and the same command goes on from there, with `--from FILE` also
from a file of another machine. `--stage small` takes a minute or two on a CPU.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.gpu_study.jobs import TRAIN, Place, Row, store
from benchmarks.gpu_study.plan import CELLS, PRECISION, SCALES, STAGES, Training, trainings
from benchmarks.gpu_study.schedule import Study, finished_keys
from benchmarks.gpu_study.summary import summary
from g2dbench.system.device import choose_device
from g2dbench.system.environment import hardware

RESULTS, REPORT = "results.jsonl", "study.md"


def main() -> None:
    args = _arguments()
    began = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = _known_rows(args)
    wanted = list(trainings(tuple(args.stage), args.seeds))
    device = choose_device(args.device)
    facts = [f"Machine: {hardware(device)}; {torch.__version__}.", *_draw(wanted, args)]
    log = (args.out / RESULTS).open("a", encoding="utf-8")

    def record(row: Row) -> None:
        rows.append(row)
        log.write(json.dumps(row) + "\n")
        log.flush()
        _copy(args)
        print(f"[{time.monotonic() - began:4.0f} s] {_line(row)}", flush=True)

    study = Study(
        wanted=wanted, cells=args.cell or [PRECISION, *CELLS],
        place=Place(args.out, str(device), args.loaders), done=finished_keys(rows),
        deadline=began + 60 * args.minutes, record=record,
        trainers=args.trainers, evaluators=args.evaluators,
    )  # fmt: skip
    study.run()
    facts.append(f"This call took {time.monotonic() - began:.0f} s.")
    study.done = finished_keys(rows)
    left = {training: study.missing(training) for training in wanted}
    facts += [
        f"Not measured: {t.scale}, {t.arm}, seed {t.seed}: {len(cells)} of {len(study.cells)}."
        for t, cells in left.items()
        if cells
    ]
    text = summary(_newest(rows), facts)
    (args.out / REPORT).write_text(text, encoding="utf-8")
    _copy(args)
    print(text, flush=True)
    os._exit(0)  # the pools' processes end with this one, whatever they are doing


def _arguments() -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stage", action="append", choices=list(STAGES))
    parser.add_argument("--cell", action="append", choices=[*CELLS, PRECISION])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--trainers", type=int, default=max(1, min(5, cores // 3)))
    parser.add_argument("--loaders", type=int, default=1 if cores > 4 else 0)
    parser.add_argument("--evaluators", type=int, default=max(1, cores // 2 - 1))
    parser.add_argument("--out", type=Path, default=Path("build/gpu-study"))
    parser.add_argument("--copy", type=Path, help="also write results and report here")
    parser.add_argument("--from", type=Path, dest="earlier", help="results of an earlier call")
    args = parser.parse_args()
    args.stage = args.stage or ["bench", "arms", "ideas"]
    return args


def _known_rows(args: argparse.Namespace) -> list[Row]:
    """The rows of earlier calls; those of `--from` are added to the file once."""
    mine = args.out / RESULTS
    if args.earlier is not None and not mine.is_file():
        shutil.copyfile(args.earlier, mine)
    if not mine.is_file():
        return []
    return [json.loads(line) for line in mine.read_text(encoding="utf-8").splitlines() if line]


def _newest(rows: list[Row]) -> list[Row]:
    """One row of each measurement: the last; a failure does not hide an earlier success."""
    found: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row["scale"], row["arm"], row["seed"], row["cell"])
        if "failed" not in row or key not in found:
            found[key] = row
    return list(found.values())


def _draw(wanted: list[Training], args: argparse.Namespace) -> list[str]:
    """Draw the radiographs of all scales; returns a sentence for each part drawn now."""
    cores, said = len(os.sched_getaffinity(0)), []
    for name in dict.fromkeys(training.scale for training in wanted):
        scale = SCALES[name]
        for part, count in (("bench", scale.bench), ("pretrain", scale.drawn)):
            start = time.monotonic()
            store(scale, args.out, part, workers=cores if cores > 1 else 0)
            seconds = time.monotonic() - start
            if seconds > 2:
                speed = count / seconds
                said.append(
                    f"Drew {count} radiographs of {scale.size} px in {seconds:.0f} s: "
                    f"{speed:.0f}/s, {speed / cores:.0f}/s per core."
                )
                print(said[-1], flush=True)
    return said


def _line(row: Row) -> str:
    where = f"{row['scale']} | {row['arm']} | seed {row['seed']} | {row['cell']}"
    if "failed" in row:
        return f"{where} | FAILED {row['failed']}"
    if "value" in row:
        return f"{where} | {100 * row['value']:.1f} | {row['seconds']:.0f} s"
    if row["cell"] == TRAIN:
        return f"{where} | R@10 {row.get('r10', float('nan')):.2f} | {row['seconds']:.0f} s"
    best = max(row["masks"], key=lambda mask: mask["pooled"])
    times = best["pooled"] / best["chance"]
    return f"{where} | best {best['source']} {best['threshold']}: {times:.1f} x chance"


def _copy(args: argparse.Namespace) -> None:
    """Copy results and report to `--copy`, from where they come back."""
    if args.copy is not None:
        args.copy.mkdir(parents=True, exist_ok=True)
        for name in (RESULTS, REPORT):
            if (args.out / name).is_file():
                shutil.copyfile(args.out / name, args.copy / name)


if __name__ == "__main__":
    main()
