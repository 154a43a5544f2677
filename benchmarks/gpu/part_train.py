"""Speed of pre-training on a GPU: the published step against ours on the same batches.

ResNet-50 U-Net and BERT-base with random weights; the published step under fp16 autocast as its
authors ran it, ours in bf16. Both run in turn, in blocks of steps timed one by one by the GPU's
events; a figure is the median over all steps of all blocks, its spread the range of the middle
half. Short reports come first; long ones and experiments use what time is left.
"""

import copy
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from graphs import capture_mask, capture_networks
from meter import flops, repeat, seconds, step_seconds, traffic
from part import Part, start
from published_step import published_step
from steps import Setup, Step, bytes_per_s, our_step, peak_flops, setup
from torch import Tensor
from transformers import BertConfig

from g2dbench.method import Batch, Method

STEPS, ROUNDS, WARM_UP = 6, 5, 3


def main() -> None:
    part = start(__doc__)
    device = part.device
    part.tell(
        bf16_flops_per_s=peak_flops(device, torch.bfloat16, part.small),
        fp16_flops_per_s=peak_flops(device, torch.float16, part.small),
        copy_bytes_per_s=bytes_per_s(device, part.small),
    )
    sizes, batches = ((64,), (4,)) if part.small else ((256, 224), (128, 64))
    rows = [(size, batch) for size in sizes for batch in batches]
    for size, batch in rows:
        name = f"{size} px, batch {batch}"
        part.attempt(name, partial(compare, part, size, batch, name, "short"), 12.0)
    if device.type == "cuda":
        for batch in batches:
            name = f"{sizes[0]} px, batch {batch}, image networks in CUDA graphs"
            part.attempt(name, partial(graphed, part, sizes[0], batch, name), 8.0)
    for size, batch in rows:
        name = f"{size} px, batch {batch}"
        part.attempt(name, partial(compare, part, size, batch, name, "long"), 12.0)


def graphed(part: Part, size: int, batch: int, name: str) -> None:
    """Our step as it is, with its image networks in graphs, and with the pseudo mask in one too."""
    device = part.device
    made = setup(size, batch, device, part.small)
    given = made.batches["short"][0]
    ours = our_step(made.method, device)
    variants: dict[str, Callable[[Any, Tensor], None]] = {
        "eager": lambda method, images: None,
        "encoder and decoder": capture_networks,
        "encoder, decoder and mask": capture_mask,
    }
    for what, change in variants.items():
        change(made.method, given.images)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(WARM_UP):
            ours(given)
        times = step_seconds(lambda: ours(given), STEPS * ROUNDS, device)
        part.add(
            name=name, captured=what, graph_images_per_s=batch / statistics.median(times),
            spread=spread(times), peak_gib=torch.cuda.max_memory_allocated(device) / 2**30,
            losses=losses(made.method, given),
        )  # fmt: skip


def losses(method: Method, batch: Batch) -> dict[str, float]:
    """Losses of the batch, which graphs must not change by more than rounding and training do."""
    with torch.no_grad(), torch.autocast(batch.images.device.type, torch.bfloat16):
        return {name: float(value) for name, value in method.losses(batch).items()}


def compare(part: Part, size: int, batch: int, name: str, kind: str) -> None:
    """Both steps on reports of one length, then their memory and what fills the time."""
    device = part.device
    made = setup(size, batch, device, part.small)
    given = made.batches[kind]
    before = allocated(device)
    published = published_step(device, size, **published_sizes(part.small))
    published(given[0])
    published_state = allocated(device) - before
    ours, our_state = our_step(made.method, device), state_bytes(made.method)
    steps = {"published": published, "ours": ours}
    for step in steps.values():
        for _ in range(1 if part.small else WARM_UP):
            step(given[0])
    fresh = iter(given[1:])
    new_reports = statistics.mean(step_seconds(lambda: ours(next(fresh)), 2, device))
    times = alternate(steps, given[0], device, part.small)
    found = {key: statistics.median(value) for key, value in times.items()}
    work = {key: flops(partial(step, given[0])) for key, step in steps.items()}
    moved = {key: traffic(partial(step, given[0])) for key, step in steps.items()}
    mask = mask_seconds(made, given[0], device, ours)
    part.add(
        name=name, size=size, batch=batch, reports=kind,
        tokens=float(given[0].attention.sum(1).float().median()),
        published=batch / found["published"], ours=batch / found["ours"],
        ratio=found["published"] / found["ours"],
        ours_new_reports=batch / new_reports,
        spread=spread(times["ours"]), published_spread=spread(times["published"]),
        ours_gflop_per_image=work["ours"] / batch / 1e9,
        published_gflop_per_image=work["published"] / batch / 1e9,
        ours_share_of_peak=share(work["ours"], found["ours"], part.facts["bf16_flops_per_s"]),
        published_share_of_peak=share(
            work["published"], found["published"], part.facts["fp16_flops_per_s"]
        ),
        ours_share_of_bandwidth_at_most=share(
            moved["ours"], found["ours"], part.facts["copy_bytes_per_s"]
        ),
        mask_share=mask / found["ours"],
        ours_gib=peak_gib(device, ours, given[0], our_state),
        published_gib=peak_gib(device, published, given[0], published_state),
    )  # fmt: skip
    if not any("busy" in row for row in part.rows) or part.small:
        part.add(name=f"profile of ours, {name}, {kind} reports", **profile(ours, given[0]))
        part.add(name=f"host in our step, {name}, {kind} reports", **host(ours, given[0]))


def published_sizes(small: bool) -> dict[str, Any]:
    """Arguments of `published_step`: none, or networks for a trial."""
    if not small:
        return {}
    bert = BertConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=2)
    return {"encoder": "resnet18", "bert": bert}


def state_bytes(method: Method) -> int:
    """Bytes of weights, buffers and the two moments of each trained weight."""
    kept = sum(value.nbytes for value in (*method.parameters(), *method.buffers()))
    return kept + 2 * sum(w.nbytes for w in method.parameters() if w.requires_grad)


def allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def alternate(
    steps: dict[str, Step], batch: Batch, device: torch.device, small: bool
) -> dict[str, list[float]]:
    """Seconds of each step of several blocks, the two kinds of step taking turns."""
    count, rounds = (1, 1) if small else (STEPS, ROUNDS)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name] += step_seconds(partial(step, batch), count, device)
    return times


def spread(times: list[float]) -> float:
    """The range of the middle half of the times, over their median."""
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return (high - low) / middle


def share(amount: float, time: float, limit: float) -> float:
    return amount / time / limit


def mask_seconds(made: Setup, batch: Batch, device: torch.device, ours: Step) -> float:
    """Median seconds of one pseudo mask, with the attention of a real step."""
    method: Any = made.method
    caught: list[tuple[Tensor, ...]] = []
    make = method.pseudo_mask.forward

    def forward(*given: Tensor) -> Tensor:
        caught.append(tuple(copy.copy(value) for value in given))
        found: Tensor = make(*given)
        return found

    with mock.patch.object(method.pseudo_mask, "forward", forward):
        ours(batch)
    make(*caught[0])
    return statistics.median(step_seconds(lambda: make(*caught[0]), 20, device))


def peak_gib(device: torch.device, step: Step, batch: Batch, state: int) -> float | None:
    """GiB of one training: weights, optimizer and the peak above them during a step."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats(device)
    before = allocated(device)
    step(batch)
    return (torch.cuda.max_memory_allocated(device) - before + state) / 2**30


def profile(step: Step, batch: Batch) -> dict[str, Any]:
    """Share of the time in which the GPU computes, and the kernels that take the most of it."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    on_gpu = batch.images.device.type == "cuda"
    if on_gpu:
        kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as found:
        wall = seconds(partial(repeat, lambda: step(replace(batch)), 3), batch.images.device)
    rows = found.key_averages()
    kernel = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    every = [(getattr(row, kernel), row.count, row.key) for row in rows]
    spent = sorted((row for row in every if row[0] > 0), reverse=True)
    total = sum(time for time, _, _ in spent)
    top = [
        f"{100 * time / max(total, 1):.1f} % {key[:90]} ({count // 3} a step)"
        for time, count, key in spent[:25]
    ]
    launches = sum(count for _, count, _ in spent) / 3
    return {"busy": total / 1e6 / wall, "kernels_per_step": launches, "top": top}


def host(step: Step, batch: Batch) -> dict[str, Any]:
    """What the host does in a step: its calls to the GPU's driver, and where its time goes."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if batch.images.device.type == "cuda":
        kinds += [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as found:
        for _ in range(3):
            step(replace(batch))
    rows = [(row.self_cpu_time_total, row.count, row.key) for row in found.key_averages()]
    calls = {key: count / 3 for _, count, key in rows if key.startswith(("cuda", "cuLaunch"))}
    top = [
        f"{time / 3e3:.2f} ms {key[:60]} ({count // 3} a step)"
        for time, count, key in sorted(rows, reverse=True)[:25]
    ]
    return {"driver_calls_per_step": calls, "host_top": top}


if __name__ == "__main__":
    main()
