"""Where a result comes from: package, commit, libraries, hardware, time and memory."""

import datetime
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

import g2dbench
from g2dbench.results import Provenance

PACKAGES = (
    "numpy",
    "open_clip_torch",
    "pandas",
    "pycocotools",
    "scikit-learn",
    "scipy",
    "segmentation-models-pytorch",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


class PeakMemory:
    """Peak memory while the block ran: of the device where it has one, else of the process.

    On the CPU the operating system's high-water mark is read, which never falls: the figure is an
    upper bound when the same process did larger work before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device.type == "cuda":
            self.mib = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            self.mib = process_peak_mib()


def process_peak_mib() -> float:
    """The process's high-water mark of resident memory, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def collect(*, device: torch.device, **known: Any) -> Provenance:
    """The provenance of this process, now."""
    commit, dirty = source_state()
    return Provenance(
        version=g2dbench.__version__,
        commit=commit,
        dirty=dirty,
        packages=package_versions(),
        hardware=hardware(device),
        device=str(device),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **known,
    )


@cache
def source_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that this package runs from; None when installed."""
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return None, None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit.strip(), bool(_git(folder, "status", "--porcelain").strip())
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@cache
def package_versions() -> dict[str, str]:
    """Versions of the libraries that can move a score."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


@cache
def hardware(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{_processor()}, {os.cpu_count()} threads"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
