"""The cost of a training step: parameters, FLOPs, images per second, peak memory.

Each row is measured in its own process, on random images and reports, since the cost does not
depend on their content. A step is forward, backward and AdamW, as in training, without reading
data. Memory is that of the method, its step and its optimizer (`peak_memory.Growth`). FLOPs are
those of matrix products and convolutions, forward and backward, as torch counts them: two per
multiplication.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer, models
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast

from g2dbench.cards import MethodCard
from g2dbench.errors import BadCheckpoint, BadData, Misuse
from g2dbench.method import Batch, Method
from g2dbench.pretrained.text.tokenizer import DEFAULT_VOCAB_SIZE, SCRATCH, make_tokenizer
from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.system.environment import hardware
from g2dbench.system.files import replace_file
from g2dbench.system.peak_memory import MemoryGrowth

BERT_BASE = {
    "source": SCRATCH, "layers": 12, "hidden": 768, "heads": 12, "feed_forward": 3072,
    "positions": 512, "vocab_size": 28996,
}  # fmt: skip
"""Sizes of BERT-base with the cased vocabulary, such as Bio_ClinicalBERT."""

_WARM_UP = 1


@dataclass(frozen=True)
class Workload:
    """How a step is measured; None stands for the recipe's value."""

    steps: int
    device: str
    precision: str
    batch_size: int | None = None
    image_size: int | None = None
    report_length: int | None = None
    random_weights: bool = False
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Job:
    """One row to measure: a recipe whose `[model]` table is that of the variant `trains`."""

    recipe: Recipe
    trains: str
    workload: Workload


@dataclass(frozen=True)
class Cost:
    """One row. weights: number of parameters; learning: number of those with a gradient.

    peak_mib: on a GPU the peak of allocated memory, on the CPU the growth of the process.
    """

    recipe: str
    method: str
    trains: str
    batch_size: int
    image_size: int
    report_length: int
    weights: int
    learning: int
    gflop_per_image: float
    images_per_s: float
    peak_mib: float
    device: str
    precision: str
    hardware: str


def make_jobs(names: Sequence[str], workload: Workload) -> list[Job]:
    """One job per recipe, or one per variant if its method has `VARIANTS`.

    VARIANTS of a method's module: name of what is trained -> changes of the `[model]` table, such
    as with and without a decoder. Raises Misuse for an unknown recipe or method.
    """
    registry = Registry(workload.plugins)
    found = []
    for name in names:
        recipe = recipes.load(name)
        module = registry.find(MethodCard, recipe.method).load()
        variants: Mapping[str, Mapping[str, Any]] = getattr(module, "VARIANTS", {"all": {}})
        for trains, changes in variants.items():
            model = _merged(recipe.model, changes)
            if workload.image_size is not None:
                model = _merged(model, {"image": {"size": workload.image_size}})
            if workload.random_weights:
                model = _from_sizes(model)
            found.append(Job(recipe.model_copy(update={"model": model}), trains, workload))
    return found


def measure(job: Job) -> Cost:
    """Measure one row in its own process.

    Raises what building the method raises, and Misuse if the process was killed.
    """
    # Spawned, not forked: a fork would start with the memory of this process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, job).result()
        except BrokenProcessPool as error:
            raise Misuse(
                f"measuring {job.recipe.name} ({job.trains}) was killed, most likely because "
                "memory ran out: give a smaller --batch-size or --image-size"
            ) from error
        except (BadData, BadCheckpoint) as error:
            if job.recipe.model.get("text", {}).get("source", SCRATCH) == SCRATCH:
                raise
            raise type(error)(
                f"{error}. The cost does not depend on them: --random-weights builds a BERT-base"
            ) from error


def compare_variants(found: Sequence[Cost]) -> list[str]:
    """For each recipe with variants, a sentence with the cost of the last over the first."""
    sentences = []
    for name in dict.fromkeys(cost.recipe for cost in found):
        less, *_, more = [cost for cost in found if cost.recipe == name] * 2
        if less.trains == more.trains:
            continue
        # A process whose memory peaked before the measurement shows no growth: no ratio then.
        memory = f"{more.peak_mib / less.peak_mib:.2f}" if less.peak_mib else "an unknown number of"
        sentences.append(
            f"{name}: {more.trains} instead of {less.trains} takes "
            f"{less.images_per_s / more.images_per_s:.2f} times the time, "
            f"{more.gflop_per_image / less.gflop_per_image:.2f} times the FLOPs and "
            f"{memory} times the memory"
        )
    return sentences


def save(found: Sequence[Cost], path: Path) -> None:
    """Write all rows as JSON, atomically."""
    text = json.dumps([asdict(cost) for cost in found], indent=1)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _measure(job: Job) -> Cost:
    device = torch.device(job.workload.device)
    module = Registry(job.workload.plugins).find(MethodCard, job.recipe.method).load()
    growth = MemoryGrowth(device)
    method: Method = module.build(job.recipe.model, _tokenizer(job.recipe.model), 0)
    batch = _batch(method, job, device)
    step = _Step(method.to(device).to(memory_format=torch.channels_last).train(), job.workload)
    seconds = [step.timed(batch) for _ in range(_WARM_UP + job.workload.steps)][_WARM_UP:]
    peak = growth.mib()
    size, side = len(batch.images), batch.images.shape[-1]
    return Cost(
        recipe=job.recipe.name,
        method=job.recipe.method,
        trains=job.trains,
        batch_size=size,
        image_size=side,
        report_length=batch.tokens.shape[1],
        weights=sum(weight.numel() for weight in method.parameters()),
        learning=sum(w.numel() for w in method.parameters() if w.grad is not None),
        gflop_per_image=step.flops(batch) / size / 1e9,
        images_per_s=size / median(seconds),
        peak_mib=peak,
        device=job.workload.device,
        precision=job.workload.precision,
        hardware=hardware(device),
    )


def _tokenizer(model: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    text = model.get("text", {})
    if text.get("source", SCRATCH) == SCRATCH:
        return _blank_tokenizer(text.get("vocab_size", DEFAULT_VOCAB_SIZE))
    return make_tokenizer(text, ())


def _batch(method: Method, job: Job, device: torch.device) -> Batch:
    """Noise images, and random reports of equal length without padding."""
    generator = torch.Generator().manual_seed(0)
    size = job.workload.batch_size or job.recipe.optim.batch_size
    side, longest = method.preprocess.size, method.tokenize.max_length
    length = job.workload.report_length or longest
    if length > longest:
        raise Misuse(
            f"--report-length {length}: {job.recipe.name} truncates reports at {longest} tokens"
        )
    images = torch.randn(size, method.preprocess.channels, side, side, generator=generator)
    tokens = torch.randint(len(method.tokenize.tokenizer), (size, length), generator=generator)
    return Batch(
        images.to(device).contiguous(memory_format=torch.channels_last),
        tokens.to(device),
        torch.ones_like(tokens).to(device),
        tuple(map(str, range(size))),
        0,
    )


class _Step:
    """One optimizer step, as in training."""

    def __init__(self, method: Method, workload: Workload) -> None:
        self._method = method
        self._device = torch.device(workload.device)
        self._type = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(workload.precision)
        learning = [weight for weight in method.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(learning)

    def timed(self, batch: Batch) -> float:
        """Seconds of one step; gradients are kept until the next."""
        start_time = time.perf_counter()
        self._optimizer.zero_grad()
        self._backward(batch)
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - start_time

    def flops(self, batch: Batch) -> int:
        """FLOPs of forward and backward."""
        # torch does not count fused attention on the CPU, but counts its separate products.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self._backward(batch)
        return int(counter.get_total_flops())

    def _backward(self, batch: Batch) -> None:
        enabled = self._type is not None
        with torch.autocast(self._device.type, dtype=self._type, enabled=enabled):
            losses = self._method.losses(batch)
        torch.stack(list(losses.values())).sum().backward()


def _blank_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with a vocabulary of this size, which never reads text."""
    special_tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = [*special_tokens, *(f"w{number}" for number in range(size - len(special_tokens)))]
    level = models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    kinds = dict(zip(names, special_tokens, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(level), **kinds)


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The table with nested changes applied."""
    merged = dict(table)
    for key, value in changes.items():
        nested = isinstance(value, Mapping)
        merged[key] = _merged(merged.get(key, {}), value) if nested else value
    return merged


def _from_sizes(model: Mapping[str, Any]) -> dict[str, Any]:
    """The table with random weights instead of a source to load."""
    published = model.get("text", {}).get("source", SCRATCH) != SCRATCH
    return _merged(model, {"image": {"weights": ""}, "text": BERT_BASE if published else {}})
