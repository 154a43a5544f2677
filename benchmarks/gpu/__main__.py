"""Correctness and speed of g2dbench on one GPU: `make gpu`, or `python benchmarks/gpu`.

    python benchmarks/gpu [--parts tests train ...] [--device cuda] [--budget 530] [--again]
    python benchmarks/gpu --small --device cpu      # a trial of the program, figures mean nothing

Each part runs in its own process with its own time limit and writes one JSON file into build/gpu
and, if the variable OUT is set, into $OUT; gpu.md beside them is written anew after each part. A
part whose file was made from the same sources on the same card is not run again, so that a call
that ran out of time is simply repeated. The exit code is 1 if a part failed.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from summary import markdown

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
FOLDER = PROJECT / "build" / "gpu"
SOURCES = ("g2dbench", "baselines", "tasks", "benchmarks/gpu", "tests/support")
STATE = "parts.json"
TAIL_LINES = 40


@dataclass(frozen=True)
class Job:
    """A part: its name, most seconds of a run, and whether it is the test suite."""

    name: str
    seconds: int

    def command(self, args: argparse.Namespace, seconds: float) -> list[str]:
        if self.name == "tests":
            files = sorted(str(file) for file in (PROJECT / "tests").rglob("test_cuda.py"))
            report = f"--junitxml={FOLDER / 'tests.xml'}"
            options = ["-q", "-m", "gpu", "--durations=5", "--tb=short", report]
            options += ["-o", "junit_family=xunit1"]  # the one that holds recorded properties
            if len(os.sched_getaffinity(0)) >= 8:
                options += ["-n", "4", "--dist", "loadfile"]
            return [sys.executable, "-m", "pytest", *options, *files]
        options = ["--file", str(FOLDER / f"{self.name}.json"), "--results", str(FOLDER)]
        options += ["--device", args.device, "--seconds", str(seconds - 5)]
        options += ["--small"] if args.small else []
        return [sys.executable, str(HERE / f"part_{self.name}.py"), *options]


JOBS = (
    Job("tests", 120),
    Job("train", 170),
    Job("evaluate", 75),
    Job("loader", 75),
    Job("compile", 160),
)


def main() -> int:
    args = options()
    FOLDER.mkdir(parents=True, exist_ok=True)
    began, key = time.monotonic(), key_of(args)
    state = known(key)
    state["facts"] = machine_facts(args.device)
    for job in JOBS:
        if job.name not in args.parts:
            continue
        if job.name in state["parts"] and not args.again:
            print(f"== {job.name}: measured already", flush=True)
            continue
        left = args.budget - (time.monotonic() - began)
        if left < 20:
            print(f"== {job.name}: not started, {left:.0f} s left: run the command again")
            continue
        found = run(job, args, left if args.small else min(job.seconds, left))
        if found["status"] in ("done", "stopped"):
            state["parts"][job.name] = found
        else:
            state["failed"][job.name] = found
        publish(state)
    publish(state)
    print((FOLDER / "gpu.md").read_text(encoding="utf-8"))
    return 1 if state["failed"] else 0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [job.name for job in JOBS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=530.0, help="seconds of the whole call")
    parser.add_argument("--small", action="store_true", help="small networks, one repetition")
    parser.add_argument("--again", action="store_true", help="also what was measured already")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, f"torch {torch.__version__} finds no CUDA device: --small --device cpu\n")
    return args


def key_of(args: argparse.Namespace) -> str:
    """A digest of the sources, the card and the options that decide what is measured."""
    found = hashlib.sha256(repr((card(args.device), args.small, torch.__version__)).encode())
    for folder in SOURCES:
        for file in sorted((PROJECT / folder).rglob("*.py")):
            found.update(str(file.relative_to(PROJECT)).encode() + file.read_bytes())
    return found.hexdigest()[:16]


def card(device: str) -> str:
    if device == "cpu":
        return "no GPU: a trial on the processor, whose figures mean nothing"
    return str(torch.cuda.get_device_name(torch.device(device)))


def known(key: str) -> dict[str, Any]:
    """What earlier calls measured with this key."""
    fresh: dict[str, Any] = {"key": key, "parts": {}, "failed": {}}
    file = FOLDER / STATE
    if not file.is_file():
        return fresh
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if found["key"] != key:
        return fresh
    return {**found, "failed": {}}


def machine_facts(device: str) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "-C", str(PROJECT), "rev-parse", "--short=12", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "card": card(device),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit.stdout.strip() or "unknown: no git checkout",
    }


def environment(args: argparse.Namespace) -> dict[str, str]:
    """The variables of a part: where its imports lie, no network, the device of the tests."""
    paths = [str(HERE / "uninstalled"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "G2DBENCH_GPU_TESTS_ON": args.device,
    }


def run(job: Job, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run a part; its output is shown as it comes, and the end of it kept if it fails."""
    print(f"== {job.name}: at most {seconds:.0f} s", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        job.command(args, seconds), cwd=PROJECT, env=environment(args), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip()[:400])
        print(line.rstrip()[:400], flush=True)
    code = process.wait()
    signal.setitimer(signal.ITIMER_REAL, 0)
    taken = time.monotonic() - began
    stopped = code == -signal.SIGKILL and taken >= seconds - 1
    status = "done" if code == 0 else "stopped" if stopped else "failed"
    found = {"status": status, "code": code, "seconds": round(taken, 1)}
    if status != "done":
        found["tail"] = lines[-TAIL_LINES:]
    print(f"== {job.name}: {status} after {taken:.0f} s", flush=True)
    return found


def publish(state: dict[str, Any]) -> None:
    """Write the state and the summary, and copy everything to $OUT."""
    (FOLDER / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    (FOLDER / "gpu.md").write_text(markdown(FOLDER, state), encoding="utf-8")
    out = os.environ.get("OUT")
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
        for file in sorted(FOLDER.iterdir()):
            if file.suffix in (".json", ".md", ".xml"):
                shutil.copy(file, out)


if __name__ == "__main__":
    sys.exit(main())
