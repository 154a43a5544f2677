"""Measures times, and the limits of the machine with which they are compared."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of one call; the GPU is synchronized before and after it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


def step_seconds(run: Callable[[], object], count: int, device: torch.device) -> list[float]:
    """Seconds of each of `count` calls in a row; on a GPU between events in its queue."""
    if device.type != "cuda":
        return [seconds(run, device) for _ in range(count)]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]


def repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product; its side is doubled until it takes 0.15 s or is 8192."""
    side, taken = 256, 0.0
    while taken < 0.15 and side < 8192:
        side *= 2
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        taken = min(seconds(lambda: a @ b, device) for _ in range(3))  # noqa: B023
    return 2 * side**3 / taken


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(4))


def flops(step: Callable[[], object]) -> int:
    """FLOP of convolutions and matrix products in one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    total: int = counter.get_total_flops()
    return total


class Traffic(TorchDispatchMode):
    """Counts the `bytes` that operations read and write, without fusion and caches."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.bytes += sum(x.nbytes for x in tensors)
        return out


def traffic(step: Callable[[], object]) -> int:
    """Bytes of one step: an upper bound, because fused kernels and caches move fewer bytes."""
    counter = Traffic()
    with counter:
        step()
    return counter.bytes
