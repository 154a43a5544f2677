"""Properties that every output of a model must have, whatever it is.

Shapes: B images of a batch; an output has one row per image, (B, ...).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from g2dbench.conformance.subject import Subject

TOLERANCE = 1e-4
"""Largest difference by batch size or neighbors, relative to the largest value of the output.

Kernels choose the order of a sum by the shape of their input, so these differ by rounding."""

Compute = Callable[[Tensor], Tensor]


def check_tensor(name: str, value: object, shape: Sequence[int | None], on: Subject) -> list[str]:
    """Faults of one tensor: type, shape (None is any length), values, device, gradient."""
    if not isinstance(value, Tensor):
        return [f"{name} returns a {type(value).__name__}, expected a torch tensor"]
    if not _has_shape(value, shape):
        return [f"{name} has shape {tuple(value.shape)}, expected {_shape_text(shape)}"]
    return [*_check_values(name, value), *_check_place(name, value, on)]


def _has_shape(value: Tensor, shape: Sequence[int | None]) -> bool:
    return value.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, value.shape, strict=True)
    )


def _shape_text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


def _check_values(name: str, value: Tensor) -> Iterator[str]:
    if not value.is_floating_point():
        yield f"{name} has type {value.dtype}, expected floating point"
    elif not bool(value.isfinite().all()):
        bad = int((~value.isfinite()).sum())
        yield f"{name} contains {bad} values of {value.numel()} that are NaN or infinite"
    elif value.dtype != torch.float32:
        yield f"{name} has type {value.dtype}, expected torch.float32 from float32 images"


def _check_place(name: str, value: Tensor, on: Subject) -> Iterator[str]:
    if value.device.type != on.device.type:
        yield f"{name} is on {value.device}, but the images are on {on.device}"
    if value.requires_grad:
        yield f"{name} has a gradient although it is computed under torch.no_grad()"


def check_rows(name: str, compute: Compute, images: Tensor, together: Tensor) -> Iterator[str]:
    """Faults of an output with one row per image; together: `compute(images)`.

    The output must repeat, must not depend on the batch, and must depend on the image.
    """
    if not torch.isfinite(together).all():
        return
    before = torch.random.get_rng_state()
    alone = compute(images[1:])
    again = compute(images[1:])
    if not torch.equal(torch.random.get_rng_state(), before):
        yield (
            f"{name} draws random numbers: is a dropout active? Return the model in eval mode, and "
            "draw nothing in its methods"
        )
    if not same(alone, again, 1e-6):
        yield f"{name} gives {_difference(alone, again)} for the same image in two calls"
    elif not same(alone, together[1:], TOLERANCE):
        yield (
            f"{name} depends on the other images of its batch: the second of two images gives "
            f"{_difference(alone, together[1:])} than alone. Normalize no value over the batch"
        )
    if same(together[:1], together[1:], 1e-6):
        yield f"{name} is the same for two different images: it does not use the image"


def same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree up to a share of the larger absolute value."""
    if one.shape != other.shape:
        return False
    scale = max(float(one.abs().max()), float(other.abs().max()), 1e-12) if one.numel() else 1.0
    return bool((one.float() - other.float()).abs().max() <= tolerance * scale)


def _difference(one: Tensor, other: Tensor) -> str:
    if one.shape != other.shape:
        return f"another shape, {tuple(one.shape)} and {tuple(other.shape)},"
    return f"values that differ by up to {float((one - other).abs().max()):.2g}"
