"""The cost of a model's forward pass: parameters, FLOPs, images and texts per second, peak memory.

Measured is what zero-shot and frozen tasks compute: `pooled` of a model with features, else
`embed_images` or `match`; and `embed_texts`. Images are noise of the model's input size, since the
cost does not depend on their content. FLOPs are those of matrix products and convolutions, as torch
counts them: two per multiplication.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from g2dbench.errors import Misuse
from g2dbench.model import Embeds, Features, Matches, Model
from g2dbench.system.environment import hardware
from g2dbench.system.files import replace_file
from g2dbench.system.machine import Machine
from g2dbench.system.peak_memory import MemoryGrowth

TEXTS = ("no pleural effusion or pneumothorax", "the heart is enlarged") * 8
FINDINGS = ("Pneumonia", "Pleural Effusion")


@dataclass(frozen=True)
class ForwardCost:
    """One model. output: the measured method. texts_per_s: 0 for a model without texts.

    weights: number of parameters of the whole model; peak_mib: growth during the passes, on a GPU
    of allocated memory, on the CPU of the process.
    """

    model: str
    output: str
    batch_size: int
    image_size: int
    weights: int
    gflop_per_image: float
    images_per_s: float
    texts_per_s: float
    peak_mib: float
    device: str
    precision: str
    hardware: str


def measure(model: Model, machine: Machine, batch_size: int, repeats: int) -> ForwardCost:
    """The median of some passes after a warm-up; Misuse for a model without image outputs."""
    output, compute = _image_output(model)
    model.to(machine.device).eval()
    images = _noise(model, batch_size).to(machine.device)
    growth = MemoryGrowth(machine.device)
    with torch.no_grad(), machine.autocast():
        seconds = _seconds(lambda: compute(images), machine, repeats)
        peak = growth.mib()
        flops = _flops(lambda: compute(images[:1]))
        texts = _texts_per_second(model, machine, repeats)
    return ForwardCost(
        model=model.identity.label,
        output=output,
        batch_size=batch_size,
        image_size=images.shape[-1],
        weights=sum(weight.numel() for weight in model.parameters()),
        gflop_per_image=flops / 1e9,
        images_per_s=batch_size / seconds,
        texts_per_s=texts,
        peak_mib=peak,
        device=str(machine.device),
        precision=machine.precision,
        hardware=hardware(machine.device),
    )


def save(found: Sequence[ForwardCost], path: Path) -> None:
    """Write all rows as JSON, atomically."""
    text = json.dumps([asdict(cost) for cost in found], indent=1)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _image_output(model: Model) -> tuple[str, Callable[[Tensor], Tensor]]:
    if not hasattr(model, "inputs"):  # such a model reads stored values by id
        if isinstance(model, Features):
            return "pooled", model.pooled
        if isinstance(model, Embeds):
            return "embed_images", model.embed_images
        if isinstance(model, Matches):
            return "match", lambda images: model.match(images, FINDINGS)
    raise Misuse(
        f"{model.identity.label} computes nothing from images: there is no cost to measure"
    )


def _noise(model: Model, batch_size: int) -> Tensor:
    size, channels = model.preprocess.size, model.preprocess.channels
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, channels, size, size, generator=generator)


def _seconds(compute: Callable[[], Tensor], machine: Machine, repeats: int) -> float:
    """Median seconds of a pass, after one that is not counted."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        compute()
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        found.append(time.perf_counter() - start)
    return median(found[1:])


def _flops(compute: Callable[[], Tensor]) -> int:
    # torch does not count fused attention on the CPU, nor the fast path of nn.MultiheadAttention,
    # but counts their separate products.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            compute()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def _texts_per_second(model: Model, machine: Machine, repeats: int) -> float:
    if not isinstance(model, Embeds):
        return 0.0
    return len(TEXTS) / _seconds(lambda: model.embed_texts(TEXTS), machine, repeats)
