"""Speed of pre-training on a GPU: the published step against ours on the same batches.

ResNet-50 U-Net and BERT-base with random weights; the published step under fp16 autocast as its
authors ran it, ours in bf16. Both run in turn, in blocks of steps between two synchronizations.
"""

import copy
import statistics
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from meter import flops, seconds, traffic
from part import Part, start
from published_step import published_step
from steps import Setup, Step, bytes_per_s, our_step, peak_flops, setup
from torch import Tensor
from transformers import BertConfig

from g2dbench.method import Batch, Method

STEPS, ROUNDS, WARM_UP = 4, 4, 3


def main() -> None:
    part = start(__doc__)
    device = part.device
    part.tell(
        bf16_flops_per_s=peak_flops(device, torch.bfloat16, part.small),
        fp16_flops_per_s=peak_flops(device, torch.float16, part.small),
        copy_bytes_per_s=bytes_per_s(device, part.small),
    )
    sizes, batches = ((64,), (4,)) if part.small else ((256, 224), (128, 64))
    for size in sizes:
        for batch in batches:
            name = f"{size} px, batch {batch}"
            part.attempt(name, partial(compare, part, size, batch, name), 20.0)


def compare(part: Part, size: int, batch: int, name: str) -> None:
    """Both steps on the reports of each length, then their memory and what fills the time."""
    device = part.device
    made = setup(size, batch, device, part.small)
    given = made.batches["short"][0]
    before = allocated(device)
    published = published_step(device, size, **published_sizes(part.small))
    published(given)
    published_state = allocated(device) - before
    ours, our_state = our_step(made.method, device), state_bytes(made.method)
    for kind, given in made.batches.items():
        steps = {"published": published, "ours": ours}
        for step in steps.values():
            for _ in range(1 if part.small else WARM_UP):
                step(given[0])
        uncached = seconds(lambda: ours(given[1]), device)  # noqa: B023
        ours(given[2])
        times = alternate(steps, given[0], device, part.small)
        found = {key: statistics.median(value) for key, value in times.items()}
        work = {key: flops(lambda s=step: s(given[0])) for key, step in steps.items()}  # noqa: B023
        moved = {key: traffic(lambda s=step: s(given[0])) for key, step in steps.items()}  # noqa: B023
        mask = mask_seconds(made, given[0], device, ours)
        part.add(
            name=name, size=size, batch=batch, reports=kind,
            tokens=float(given[0].attention.sum(1).float().median()),
            published=batch / found["published"], ours=batch / found["ours"],
            ratio=found["published"] / found["ours"],
            ours_first_epoch=batch / uncached,
            spread=spread(times["ours"]),
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
    """Seconds of a step in each of several rounds, the steps taking turns."""
    count, rounds = (1, 1) if small else (STEPS, ROUNDS)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():

            def block(step: Step = step) -> None:
                for _ in range(count):
                    step(batch)

            times[name].append(seconds(block, device) / count)
    return times


def spread(times: list[float]) -> float:
    return (max(times) - min(times)) / statistics.median(times)


def share(amount: float, time: float, limit: float) -> float:
    return amount / time / limit


def mask_seconds(made: Setup, batch: Batch, device: torch.device, ours: Step) -> float:
    """Seconds of one pseudo mask, with the attention of a real step, 10 in a row."""
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
    return seconds(lambda: [make(*caught[0]) for _ in range(10)], device) / 10


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
        wall = seconds(lambda: [step(replace(batch)) for _ in range(3)], batch.images.device)
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


if __name__ == "__main__":
    main()
