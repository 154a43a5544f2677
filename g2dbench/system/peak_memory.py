"""How much memory a piece of work takes: of the GPU where there is one, else of the process."""

import resource
import sys
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Growth:
    """The highest that memory stood above where it began, in MiB.

    On the CPU it is the resident memory of this process, libraries that a first use maps included;
    those of convolutions, products and AdamW are used once beforehand. On Linux the high-water mark
    is set back first; elsewhere it never falls, so that earlier, larger work hides what follows.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device) / 2**20
            return
        _touch_libraries()
        if not _STATUS.is_file():
            self._before = process_peak_mib()
            return
        _CLEAR.write_text("5")
        self._before = _status("VmRSS")

    def mib(self) -> float:
        """The growth up to now."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20 - self._before
        now = _status("VmHWM") if _STATUS.is_file() else process_peak_mib()
        return now - self._before


def _status(name: str) -> float:
    """A figure of /proc/self/status in MiB."""
    lines = _STATUS.read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[name].split()[0]) / 2**10


def _touch_libraries() -> None:
    """One training step of next to nothing."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 2))
    optimizer = torch.optim.AdamW(net.parameters())
    for dtype in (None, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = net(torch.rand(2, 3, 8, 8)).float().square().sum()
        loss.backward()
        optimizer.step()


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
