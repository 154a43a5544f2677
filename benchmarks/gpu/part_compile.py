"""What `torch.compile` gains: our step with nothing, the encoder, and encoder and decoder compiled.

Compile time is that of the first two steps, forward and backward. A variant that fails is told.
The part `train` measures CUDA graphs, which need no compiler.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from meter import repeat, seconds, step_seconds
from part import Part, start
from steps import Step, our_method, our_step, setup

from g2dbench.method import Batch, Method
from g2dbench.methods.g2d import model as g2d
from g2dbench.methods.shared import unet

Change = Callable[[Any], None]


def main() -> None:
    part = start(__doc__)
    torch._dynamo.config.cache_size_limit = 64
    size, batch = (64, 4) if part.small else (256, 128)
    given = setup(size, batch, part.device, part.small).batches["short"][0]
    # The trial on a processor only traces, since to generate C++ takes minutes.
    options = {"backend": "aot_eager"} if part.small else {}
    for name, apply, needed in variants(options):
        part.attempt(name, partial(measure, part, name, apply, size, given), needed)


def variants(options: dict[str, Any]) -> Iterator[tuple[str, Change, float]]:
    """Name, change of the method, and seconds that must be left."""

    def encoder(method: Any) -> None:
        method.unet.encoder.compile(**options)

    def both(method: Any) -> None:
        encoder(method)
        method.compiled_decode = torch.compile(unet.decode, **options)

    yield "nothing compiled", lambda method: None, 5.0
    yield "encoder", encoder, 45.0
    yield "encoder and decoder", both, 60.0


@contextmanager
def decoder_of(method: Any) -> Iterator[None]:
    """Within the block the decoder of a method is compiled if the variant asked for it."""
    with mock.patch.object(g2d, "decode", getattr(method, "compiled_decode", unet.decode)):
        yield


def measure(part: Part, name: str, apply: Change, size: int, given: Batch) -> None:
    torch._dynamo.reset()
    device, batch = part.device, len(given.images)
    method = our_method(size, part.small)
    step = our_step(method, device)
    apply(method)
    with decoder_of(method):
        first = seconds(partial(repeat, partial(step, given), 2), device)
        taken = timed(step, given, device, part.small)
    eager = next((row["seconds"] for row in part.rows if "seconds" in row), taken)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    part.add(
        name=name, size=size, batch=batch, seconds=taken, images_per_s=batch / taken,
        gain=eager / taken, first_two_steps_seconds=first, peak_gib=peak,
        losses=losses(method, given),
    )  # fmt: skip


def timed(step: Step, batch: Batch, device: torch.device, small: bool) -> float:
    """Median seconds of 16 steps."""
    return statistics.median(step_seconds(lambda: step(batch), 1 if small else 16, device))


def losses(method: Method, batch: Batch) -> dict[str, float]:
    """Losses after the steps, which must be alike in all variants."""
    with torch.no_grad(), torch.autocast(batch.images.device.type, torch.bfloat16):
        return {name: float(value) for name, value in method.losses(batch).items()}


if __name__ == "__main__":
    main()
