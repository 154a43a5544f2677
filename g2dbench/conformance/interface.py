"""Checks of what a model says about itself: card, loader, identity, preprocessing."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.cards import CAPABILITIES
from g2dbench.conformance import fault
from g2dbench.conformance.subject import Subject, odd_images
from g2dbench.errors import G2DBenchError
from g2dbench.model import Identity, capabilities
from g2dbench.pretrained.weights import digest
from g2dbench.registry import read_card

_MEMBERS = {
    "embeds": ("embed_images", "embed_texts"),
    "features": ("channels", "strides", "fixed_size", "features", "pooled"),
    "locates": ("grounding", "locate"),
    "matches": ("match",),
    "decodes": ("pretrained_decoder",),
}
"""Capability -> the names that a model needs for it."""


def check_card(on: Subject) -> Iterator[str]:
    """The card has the loaded model's capabilities and states its origin."""
    card = on.model.card
    for name in ("summary", "paper", "source", "licence"):
        if not getattr(card, name).strip():
            yield f"the card's {name} is empty; write `none` if there is none"
    found = capabilities(on.model)
    for name in CAPABILITIES:
        if name in card.capabilities and name not in found:
            absent = [member for member in _MEMBERS[name] if not hasattr(on.model, member)]
            yield f"the card says {name!r}, but the model has no {' and no '.join(absent)}"
        if name in found and name not in card.capabilities:
            yield f"the model has all of {name!r}, but its card does not say so: add it"
    if not card.capabilities:
        yield "the card names no capability, so that no task can evaluate the model"
    file = getattr(on.module, "__file__", None)
    if on.module is not None and file and read_card(Path(file)) != on.module.CARD:
        yield f"the CARD that is written in {file} is not the one that the module has"


def check_loading(on: Subject) -> Iterator[str]:
    """`load(source, seed)` gives the same weights twice, in eval mode, and clear errors."""
    identity = getattr(on.model, "identity", None)
    if not isinstance(identity, Identity) or not identity.label:
        yield "load() sets no identity: give the model `identity = Identity(label)`"
    elif "/" in identity.label:
        yield f"the label {identity.label!r} contains a folder: use the file's name alone"
    if any(module.training for module in on.model.modules()):
        yield "the loaded model is in training mode: call its eval() before load() returns it"
    for key, value in on.model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            yield f"the weights {key} contain NaN or infinity"
    if digest(on.load(0)) != digest(on.model):
        yield "two calls of load() with one seed give different weights: initialize from `seed`"
    if on.module is not None:
        yield from _check_loader(on)


def _check_loader(on: Subject) -> Iterator[str]:
    load = getattr(on.module, "load", None)
    if load is None:
        yield "the file has no function load(source, seed)"
        return
    if list(inspect.signature(load).parameters) != ["source", "seed"]:
        yield f"load has the parameters {inspect.signature(load)}, expected (source, seed)"
        return
    if on.model.card.needs_weights:
        yield from (sentence for wrong in _WRONG if (sentence := _bad_error(load, wrong, on)))


_WRONG = (None, "no-such-folder/no-such-file.pt")


def _bad_error(load: object, source: str | None, on: Subject) -> str:
    """The fault of what load raises for a wrong source; "" for an error of g2dbench."""
    assert callable(load)
    try:
        load(source, 0)
    except G2DBenchError:
        return ""
    except Exception as error:
        return (
            f"load({source!r}, 0) raises {fault.describe(error, on.files)}; raise Misuse for a "
            "missing source and BadCheckpoint for a wrong file, so that users get a sentence"
        )
    return f"load({source!r}, 0) succeeds, but the card says that the model needs weights"


def check_preprocessing(on: Subject) -> Iterator[str]:
    """Gray 8-bit images of any size become (C, S, S) float32, the same in every call."""
    preprocess = on.model.preprocess
    expected = (preprocess.channels, preprocess.size, preprocess.size)
    for name, image in odd_images().items():
        try:
            yield from _check_image(name, image, on, expected)
        except Exception as error:
            yield f"preprocess fails for a {name} image: {fault.describe(error, on.files)}"


def _check_image(
    name: str, image: NDArray[np.uint8], on: Subject, expected: tuple[int, int, int]
) -> Iterator[str]:
    preprocess, before = on.model.preprocess, image.copy()
    image.flags.writeable = False  # as images of a store are
    found = preprocess(image)
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        shape = tuple(getattr(found, "shape", ()))
        yield f"preprocess turns a {name} image into shape {shape}, expected {expected}"
        return
    if found.dtype != torch.float32:
        yield f"preprocess turns a {name} image into {found.dtype}, expected torch.float32"
    if not bool(found.isfinite().all()):
        yield f"preprocess turns a {name} image into NaN or infinity: it may divide by zero"
    elif not torch.equal(found, preprocess(image)):
        yield f"preprocess gives two results for one {name} image: it must not be random"
    elif not torch.equal(preprocess.batch([image, image])[1], found):
        yield f"preprocess.batch differs from preprocess for a {name} image"
    if not np.array_equal(image, before):
        yield f"preprocess changes a {name} image that it is given"
    height, width = image.shape
    if preprocess.geometry(height, width).map_to_image(np.ones((4, 4))).shape != image.shape:
        yield f"preprocess.geometry maps a grid to another size than that of a {name} image"
