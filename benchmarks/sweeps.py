"""Sweeps: the same plan on all engines, speed of the local pool, expected against real time.

    python benchmarks/sweeps.py engines   # local, Ray with a node removed, submitit: equal bytes?
    python benchmarks/sweeps.py speed     # one worker against two; on two idle cores, 5 minutes

The plan is mixed: cells that fit heads (cls, seg) and cells that only score (zeroshot, ground).
`engines` needs the extras ray and slurm. Everything is written below --folder and removed first.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

SIZE = 64

PLAN = """
models = ["random-init"]
data = ["synthetic:{images}"]
seeds = {seeds}

[[grids]]
tasks = ["cls"]
protocols = ["sweep", "knn", "g2d"]
fractions = [0.1, 1.0]

[[grids]]
tasks = ["seg"]
protocols = ["small"]
fractions = [0.1]

[[grids]]
tasks = ["zeroshot", "ground"]
"""

LIGHT_PLAN = """
models = ["random-init"]
data = ["synthetic:{images}"]
seeds = {seeds}
tasks = ["cls"]
protocols = ["sweep", "knn"]
fractions = [0.1, 1.0]
"""


def g2dbench(folder: Path, name: str, *words: object) -> tuple[float, str]:
    """Run a sweep with a results folder and a feature cache of its own; seconds and output."""
    command = [sys.executable, "-m", "g2dbench", "sweep", folder / "plan.toml", *words]
    command += ["--size", SIZE, "--store", folder / "store", "--out", folder / name]
    command += ["--feature-cache", folder / f"{name}-features", "--device", "cpu"]
    began = time.perf_counter()
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, env=environment()
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return seconds, done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def stored(folder: Path) -> dict[str, str]:
    """Cell -> digest of the bytes of its predictions."""
    files = sorted(folder.rglob("predictions.parquet"))
    return {
        str(file.parent.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def prepare(folder: Path, plan: str, images: int, seeds: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "plan.toml").write_text(plan.format(images=images, seeds=list(range(seeds))))
    words = ["data", "prepare", f"synthetic:{images}", "--size", SIZE, "--store", folder / "store"]
    command = [sys.executable, "-m", "g2dbench", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


def shortened(text: str, lines: int = 12) -> str:
    noise = ("[state-dump]", "(raylet)")  # what Ray prints of a lost node
    kept = [
        line for line in text.splitlines() if line.strip() and not any(n in line for n in noise)
    ]
    found = [f"    {line}" for line in kept]
    return "\n".join(
        found if len(found) <= lines else [*found[: lines - 4], "    ...", *found[-3:]]
    )


def engines(folder: Path) -> None:
    """Run the plan on each engine; exits with 1 unless all have the same bytes."""
    from ray.cluster_utils import Cluster

    seconds, output = g2dbench(folder, "local")
    print(f"local: {seconds:.0f} s\n{shortened(output)}")
    head = {
        "num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False,
        "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 3},
    }  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]

    def remove() -> None:
        while len(stored(folder / "ray")) < 2:
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print(f"  a node is removed after {len(stored(folder / 'ray'))} cells")

    threading.Thread(target=remove, daemon=True).start()
    seconds, output = g2dbench(folder, "ray", "--on", "ray", "--address", cluster.address)
    print(f"ray, two nodes, of which one is removed: {seconds:.0f} s\n{shortened(output)}")
    cluster.shutdown()
    words = ["--on", "slurm", "--jobs", 2, "--slurm", "cluster=local", "--slurm", "timeout_min=30"]
    seconds, output = g2dbench(folder, "slurm", *words)
    print(f"submitit, local executor: {seconds:.0f} s\n{shortened(output)}")
    found = {name: stored(folder / name) for name in ("local", "ray", "slurm")}
    partial = [path for path in folder.rglob(".*.partial") if any(path.iterdir())]
    for name, cells in found.items():
        same = "the same bytes as local" if cells == found["local"] else "OTHER BYTES than local"
        print(f"{name}: {len(cells)} cells, {same}")
    print(f"partial results: {len(partial)}")
    if any(cells != found["local"] for cells in found.values()) or partial:
        raise SystemExit(1)


def speed(folder: Path) -> None:
    """One worker against two, then the plan of a second run against what it takes."""
    one, output = g2dbench(folder, "one", "--jobs", 1)
    print(f"one worker: {one:.0f} s\n{shortened(output, 5)}")
    two, output = g2dbench(folder, "two", "--jobs", 2)
    print(f"two workers: {two:.0f} s\n{shortened(output, 5)}")
    print(
        f"speed-up {one / two:.2f}; equal bytes: {stored(folder / 'one') == stored(folder / 'two')}"
    )
    earlier = ["--jobs", 2, "--earlier", folder / "two"]
    _, output = g2dbench(folder, "again", *earlier, "--plan")
    line = output.splitlines()[-1]
    print(f"plan of the second run: {line}")
    _, output = g2dbench(folder, "again", *earlier)
    second = float(re.findall(r"(\d+) s: wrote", output)[0])
    number, unit = re.findall(r"take about (\S+) (s|min|h)", line)[0]
    expected = float(number) * {"s": 1, "min": 60, "h": 3600}[unit]
    print(f"expected {expected:.0f} s, real {second:.0f} s, ratio {second / expected:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["engines", "speed"])
    parser.add_argument("--folder", type=Path, default=Path("build/sweeps"))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--light", action="store_true", help="cls alone, for a busy machine")
    args = parser.parse_args()
    folder = args.folder.resolve()
    prepare(folder, LIGHT_PLAN if args.light else PLAN, args.images, args.seeds)
    {"engines": engines, "speed": speed}[args.mode](folder)


if __name__ == "__main__":
    main()
