"""Memory use of a piece of work: of the GPU if there is one, else of the process."""

import resource
import sys
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

_PROC_STATUS, _CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryGrowth:
    """Peak memory since construction minus memory at construction, in MiB.

    On the CPU this is the resident memory of the process. Libraries for convolutions, matrix
    products and AdamW are loaded first, so that they do not count; others that are loaded later
    do. On Linux the peak is reset first; elsewhere larger work before hides later growth.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device) / 2**20
            return
        _warm_up_libraries()
        if not _PROC_STATUS.is_file():
            self._before = process_peak_mib()
            return
        _CLEAR_PEAK.write_text("5")
        self._before = _proc_status("VmRSS")

    def mib(self) -> float:
        """The growth up to now."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20 - self._before
        now = _proc_status("VmHWM") if _PROC_STATUS.is_file() else process_peak_mib()
        return now - self._before


def _proc_status(name: str) -> float:
    """An entry of /proc/self/status in MiB."""
    lines = _PROC_STATUS.read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[name].split()[0]) / 2**10


def _warm_up_libraries() -> None:
    """Run one tiny training step, which loads the libraries."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 2))
    optimizer = torch.optim.AdamW(net.parameters())
    for dtype in (None, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = net(torch.rand(2, 3, 8, 8)).float().square().sum()
        loss.backward()
        optimizer.step()


class PeakMemory:
    """Peak memory during a `with` block, in MiB: of the GPU if there is one, else of the process.

    On the CPU this is the peak since the process started, so an upper bound if the process did
    larger work before.
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
    """Peak resident memory of the process since it started, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
