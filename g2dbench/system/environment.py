"""Provenance of a result: source commit, library versions, hardware."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

import g2dbench

PACKAGES = (
    "numpy",
    "open_clip_torch",
    "pandas",
    "pillow",
    "pycocotools",
    "scikit-learn",
    "scipy",
    "segmentation-models-pytorch",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


@cache
def source_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of this package's git checkout; None if it is installed."""
    folder = Path(g2dbench.__file__).resolve().parent
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
    """Versions of the libraries that can change a score."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


@cache
def hardware(device: torch.device) -> str:
    """The name of the GPU or processor."""
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
