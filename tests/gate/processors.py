"""The gate's suite on imitated processors: `python processors.py OUT [--only NAME ...]`.

Runs suite.py once per imitated processor, in a separate process, and writes its results to OUT, a
new folder. Prints each main score beside that of the committed baseline, and the band: the largest
difference between two processors. Exits with 1 if a score differs from the baseline by more than
its tolerance, in either direction.

The variables that imitate a processor are read where a library is loaded; a processor that lacks
an instruction set cannot imitate one that has it, and then runs the next best.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__

from g2dbench.result import Result, load_all

HERE = Path(__file__).parent

TOLERANCE, UNTRAINED = 0.05, 0.002
"""Largest difference from the baseline, for all cells and for those without a trained network.

Training amplifies the last bits in which processors differ, the rest does not: the bands were
0.031 and 0.0000 (docs/synthetic.md).
"""

_AVX512 = [name for name in __cpu_dispatch__ if name.startswith(("AVX512", "X86_V4"))]
_NEWEST = [name for name in __cpu_dispatch__ if name.startswith(("AVX512_ICL", "AVX512_SPR"))]

_CV512 = ("AVX512-SKX",)
_CV2 = (*_CV512, "AVX2", "FP16")


def _imitation(
    numpy: list[str], aten: str, onednn: str, mkl: str, openblas: str, opencv: tuple[str, ...]
) -> dict[str, str]:
    """The variables of each library; those of numpy and opencv name the features to disable."""
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(numpy),
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "OPENBLAS_CORETYPE": openblas,
        "OPENCV_CPU_DISABLE": ",".join(opencv),
        "OPENCV_IPP": "disabled",
    }


PROCESSORS = {
    "this one": {},
    "Skylake, AVX-512": _imitation(_NEWEST, "avx512", "AVX512_CORE", "AVX512", "SkylakeX", ()),
    "Haswell, AVX2": _imitation(_AVX512, "avx2", "AVX2", "AVX2", "Haswell", _CV512),
    "Sandy Bridge, AVX": _imitation(__cpu_dispatch__, "default", "AVX", "AVX", "Sandybridge", _CV2),
    "Nehalem, SSE4.2": {
        **_imitation(__cpu_dispatch__, "default", "SSE41", "SSE4_2", "Nehalem", (*_CV2, "AVX")),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    },
}

Scores = dict[str, float]
"""Name of a cell -> its main score."""


def scores(folder: Path) -> Scores:
    return {name_of(result): result.main.value for result in load_all(folder) if result.main}


def name_of(result: Result) -> str:
    return f"{result.cell.task} {result.cell.model.partition('+')[0]} {result.metric}"


def tolerance(cell: str) -> float:
    """The tolerance of a cell; `cls` on a frozen network is a convex problem."""
    task, model, _ = cell.split()
    return UNTRAINED if model == "random-init" and task != "seg" else TOLERANCE


def run(name: str, out: Path) -> Scores:
    """Run the suite on one imitated processor; its output is printed only if it fails."""
    folder = out / name.replace(",", "").replace(" ", "-")
    command = [sys.executable, str(HERE / "suite.py"), str(folder / "results"), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **PROCESSORS[name]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the suite failed on {name}:\n{done.stdout}{done.stderr}")
    return scores(folder / "results")


def compare(baseline: Scores, found: dict[str, Scores]) -> tuple[list[str], list[str]]:
    """The lines of the table, and the cells whose difference exceeds their tolerance."""
    lines, left = [], []
    for cell, before in sorted(baseline.items()):
        values = [column[cell] for column in found.values()]
        off = max(abs(value - before) for value in values)
        if not off <= tolerance(cell):
            left.append(f"{cell}: {off:.4f} off, {tolerance(cell):g} allowed")
        numbers = " ".join(f"{value:17.4f}" for value in values)
        lines.append(f"{cell:25} {before:9.4f} {numbers} {max(values) - min(values):9.4f}")
    return lines, left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=PROCESSORS, default=list(PROCESSORS))
    asked = parser.parse_args()
    if asked.out.exists():
        raise SystemExit(f"{asked.out} exists: its runs would be taken for today's; remove it")
    found = {name: run(name, asked.out) for name in asked.only}
    lines, left = compare(scores(HERE / "baseline"), found)
    heads = " ".join(f"{name:>17}" for name in found)
    print(f"{'':25} {'baseline':>9} {heads} {'band':>9}", *lines, sep="\n")
    print("beyond the tolerance:", *left or ["nothing"], sep="\n")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
