"""Runs all checks of a model; each fault is a sentence for the model's author.

The checks take seconds for a small model and less than a minute for a ViT-B on a CPU: two images,
about five forward passes per capability.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from g2dbench.cards import ModelCard
from g2dbench.conformance import capabilities, fault, interface
from g2dbench.conformance.subject import Subject
from g2dbench.evaluation.model_reference import ModelReference
from g2dbench.model import Model
from g2dbench.model import capabilities as capabilities_of
from g2dbench.registry import Registry

Check = Callable[[Subject], Iterator[str]]

ALWAYS: dict[str, Check] = {
    "card": interface.check_card,
    "loading": interface.check_loading,
    "preprocessing": interface.check_preprocessing,
}
BY_CAPABILITY: dict[str, tuple[str, Check]] = {
    "features": ("features", capabilities.check_features),
    "pooled": ("features", capabilities.check_pooled),
    "embeds": ("embeds", capabilities.check_embeds),
    "matches": ("matches", capabilities.check_matches),
    "locates": ("locates", capabilities.check_locates),
    "decodes": ("decodes", capabilities.check_decodes),
}
"""Name of the check -> the capability that it needs, and the check."""
HALF_PRECISION: dict[str, Check] = {"bfloat16": capabilities.check_half_precision}


@dataclass(frozen=True)
class CheckResult:
    """One check. faults: sentences, empty if it passed; skipped: why it did not run, or ""."""

    name: str
    faults: tuple[str, ...] = ()
    skipped: str = ""
    seconds: float = 0.0


def check_reference(
    reference: ModelReference, registry: Registry, device: torch.device
) -> Iterator[CheckResult]:
    """Load the model of a `--model` argument, and yield the result of each check.

    An exception of the author's code is a fault with the line of the author's file.
    """
    files = _own_files(reference, registry)
    started = time.perf_counter()
    try:
        subject = _load(reference, registry, files, device)
    except Exception as error:
        sentence = f"the model cannot be loaded: {fault.describe(error, files)}"
        yield CheckResult("loading", (sentence,), seconds=time.perf_counter() - started)
        return
    yield from check_subject(subject)


def check_subject(subject: Subject) -> Iterator[CheckResult]:
    """The result of each check of a loaded model."""
    for name in (*ALWAYS, *BY_CAPABILITY, *HALF_PRECISION):
        yield run_check(name, subject)


def names() -> tuple[str, ...]:
    """The checks in the order in which they run."""
    return (*ALWAYS, *BY_CAPABILITY, *HALF_PRECISION)


def run_check(name: str, subject: Subject) -> CheckResult:
    """The result of one check, without gradient."""
    needed, check = BY_CAPABILITY.get(name, ("", None))
    if needed and needed not in capabilities_of(subject.model):
        return CheckResult(name, skipped=f"the model does not have {needed!r}")
    if name not in ALWAYS and hasattr(subject.model, "inputs"):
        return CheckResult(name, skipped="the model reads stored values by image id, not pixels")
    started = time.perf_counter()
    faults: list[str] = []
    try:
        with torch.no_grad():
            for sentence in (check or {**ALWAYS, **HALF_PRECISION}[name])(subject):
                faults.append(sentence)  # one by one: those before an exception count as well
    except Exception as error:
        faults.append(f"{name} raises {fault.describe(error, subject.files)}")
    return CheckResult(name, tuple(faults), seconds=time.perf_counter() - started)


def _load(
    reference: ModelReference, registry: Registry, files: tuple[Path, ...], device: torch.device
) -> Subject:
    def load(seed: int) -> Model:
        return reference.load_as_written(registry, seed)

    model = load(0).to(device)
    module = None
    if reference.name is not None:
        module = registry.find(ModelCard, reference.name).load()
    return Subject(model, load, module, files, reference.source, device)


def _own_files(reference: ModelReference, registry: Registry) -> tuple[Path, ...]:
    if reference.name is None:
        return ()
    return (registry.find(ModelCard, reference.name).file,)
