"""What a training step costs: weights, FLOPs, images per second, peak memory.

Every row is measured in a process of its own, on random images and reports: cost does not depend on
what they show. A step is forward, backward and AdamW, as `train` does it, without reading data.

Memory is that of the method, its step and its optimiser: see `peak_memory.MemoryGrowth`.
FLOPs are those of matrix products and convolutions, forward and backward, counted by torch; twice
the multiplications.
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
from g2dbench.pretrained.tokenizer import SCRATCH, VOCABULARY, make_tokenizer
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
"""Sizes of Bio_ClinicalBERT and every other BERT-base, cased vocabulary."""

_WARM_UP = 1


@dataclass(frozen=True)
class Load:
    """What a step is measured with; None stands for the recipe's own."""

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
    """One row to measure: a recipe with its `[model]` table changed to what is to be trained."""

    recipe: Recipe
    trains: str
    load: Load


@dataclass(frozen=True)
class Cost:
    """One row. weights: all that the method holds; learning: those that got a gradient.

    peak_mib: on a GPU the most memory allocated, on the CPU the growth of the process.
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


def jobs(names: Sequence[str], load: Load) -> list[Job]:
    """A row per recipe, or several where its method names variants: with and without a decoder.

    A method's file may hold VARIANTS, a `[model]` table of changes by what is then trained.
    Raises Misuse for an unknown recipe, method, or impossible size.
    """
    registry = Registry(load.plugins)
    found = []
    for name in names:
        recipe = recipes.load(name)
        module = registry.find(MethodCard, recipe.method).load()
        variants: Mapping[str, Mapping[str, Any]] = getattr(module, "VARIANTS", {"all": {}})
        for trains, changes in variants.items():
            model = _merged(recipe.model, changes)
            if load.image_size is not None:
                model = _merged(model, {"image": {"size": load.image_size}})
            if load.random_weights:
                model = _from_sizes(model)
            found.append(Job(recipe.model_copy(update={"model": model}), trains, load))
    return found


def measure(job: Job) -> Cost:
    """One row, in a process of its own.

    Raises what building the method raises, and Misuse where the process was killed.
    """
    # Spawned, not forked: a fork would begin with this process's memory.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, job).result()
        except BrokenProcessPool as error:
            raise Misuse(
                f"measuring {job.recipe.name} ({job.trains}) was killed, most likely for want of "
                "memory: give a smaller --batch-size or --image-size"
            ) from error
        except (BadData, BadCheckpoint) as error:
            if job.recipe.model.get("text", {}).get("source", SCRATCH) == SCRATCH:
                raise
            raise type(error)(
                f"{error}. Its weights do not matter for cost: --random-weights builds a BERT-base"
            ) from error


def answers(found: Sequence[Cost]) -> list[str]:
    """Of each recipe with variants, what the last costs over the first, in a sentence."""
    sentences = []
    for name in dict.fromkeys(cost.recipe for cost in found):
        less, *_, more = [cost for cost in found if cost.recipe == name] * 2
        if less.trains == more.trains:
            continue
        # A process that peaked before it measured saw no growth: then the ratio is unknown.
        memory = f"{more.peak_mib / less.peak_mib:.2f}" if less.peak_mib else "an unknown number of"
        sentences.append(
            f"{name}: {more.trains} instead of {less.trains} takes "
            f"{less.images_per_s / more.images_per_s:.2f} times the time, "
            f"{more.gflop_per_image / less.gflop_per_image:.2f} times the FLOPs and "
            f"{memory} times the memory"
        )
    return sentences


def save(found: Sequence[Cost], path: Path) -> None:
    """All figures as JSON, whole or not at all."""
    text = json.dumps([asdict(cost) for cost in found], indent=1)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _measure(job: Job) -> Cost:
    device = torch.device(job.load.device)
    module = Registry(job.load.plugins).find(MethodCard, job.recipe.method).load()
    growth = MemoryGrowth(device)
    method: Method = module.build(job.recipe.model, _tokenizer(job.recipe.model), 0)
    batch = _batch(method, job, device)
    step = _Step(method.to(device).to(memory_format=torch.channels_last).train(), job.load)
    seconds = [step.timed(batch) for _ in range(_WARM_UP + job.load.steps)][_WARM_UP:]
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
        device=job.load.device,
        precision=job.load.precision,
        hardware=hardware(device),
    )


def _tokenizer(model: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    text = model.get("text", {})
    if text.get("source", SCRATCH) == SCRATCH:
        return _blank_tokenizer(text.get("vocab_size", VOCABULARY))
    return make_tokenizer(text, ())


def _batch(method: Method, job: Job, device: torch.device) -> Batch:
    """Noise, and reports of one length without padding."""
    draw = torch.Generator().manual_seed(0)
    size = job.load.batch_size or job.recipe.optim.batch_size
    side, longest = method.preprocess.size, method.tokenize.max_length
    length = job.load.report_length or longest
    if length > longest:
        raise Misuse(
            f"--report-length {length}: {job.recipe.name} cuts reports at {longest} tokens"
        )
    images = torch.randn(size, method.preprocess.channels, side, side, generator=draw)
    tokens = torch.randint(len(method.tokenize.tokenizer), (size, length), generator=draw)
    return Batch(
        images.to(device).contiguous(memory_format=torch.channels_last),
        tokens.to(device),
        torch.ones_like(tokens).to(device),
        tuple(map(str, range(size))),
        0,
    )


class _Step:
    """One optimiser step, as training takes it."""

    def __init__(self, method: Method, load: Load) -> None:
        self._method = method
        self._device = torch.device(load.device)
        self._type = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(load.precision)
        learning = [weight for weight in method.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(learning)

    def timed(self, batch: Batch) -> float:
        """Seconds of one step; gradients stay until the next."""
        began = time.perf_counter()
        self._optimizer.zero_grad()
        self._backward(batch)
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began

    def flops(self, batch: Batch) -> int:
        """Of forward and backward."""
        # torch counts no fused attention of the CPU, but does count what it is made of.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self._backward(batch)
        return int(counter.get_total_flops())

    def _backward(self, batch: Batch) -> None:
        enabled = self._type is not None
        with torch.autocast(self._device.type, dtype=self._type, enabled=enabled):
            losses = self._method.losses(batch)
        torch.stack(list(losses.values())).sum().backward()


def _blank_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of so many words, which is never asked to read any."""
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = [*marks, *(f"w{number}" for number in range(size - len(marks)))]
    level = models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    kinds = dict(zip(names, marks, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(level), **kinds)


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The table with changes put in, table by table."""
    merged = dict(table)
    for key, value in changes.items():
        nested = isinstance(value, Mapping)
        merged[key] = _merged(merged.get(key, {}), value) if nested else value
    return merged


def _from_sizes(model: Mapping[str, Any]) -> dict[str, Any]:
    """The table with no source to load from."""
    published = model.get("text", {}).get("source", SCRATCH) != SCRATCH
    return _merged(model, {"image": {"weights": ""}, "text": BERT_BASE if published else {}})
