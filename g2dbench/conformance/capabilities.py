"""Checks of the outputs of each capability.

Shapes: B images, C channels, S input side, D width, T texts, h w grid.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from g2dbench.conformance.outputs import TOLERANCE, check_rows, check_tensor, same
from g2dbench.conformance.subject import BATCH, FINDINGS, LONG_TEXT, TEXTS, Subject
from g2dbench.model import Decodes, Embeds, Features, Grounding, Locates, Matches


def check_features(on: Subject) -> Iterator[str]:
    """The pyramid has the announced channels and strides, also for a larger input."""
    model = cast(Features, on.model)
    yield from _check_levels(model)
    if len(model.channels) != len(model.strides):
        return
    for side in (on.size, *on.other_sides):
        images = on.images if side == on.size else on.images_of_side(side)
        pyramid = model.features(images)
        faults = _check_pyramid(pyramid, side, on)
        yield from faults
        if side == on.size and not faults:
            yield from _check_level_rows(model, images, pyramid)


def _check_levels(model: Features) -> Iterator[str]:
    if len(model.channels) != len(model.strides):
        yield f"there are {len(model.channels)} channels but {len(model.strides)} strides"
    if list(model.strides) != sorted(set(model.strides)):
        yield f"the strides {model.strides} do not ascend: put the finest map first"
    if wrong := [stride for stride in model.strides if stride < 1 or stride & (stride - 1)]:
        yield (
            f"the strides {wrong} are not powers of two: resample the map to one, as "
            "g2dbench.pretrained.image.feature_maps does"
        )


def _check_pyramid(pyramid: Sequence[Tensor], side: int, on: Subject) -> list[str]:
    model = cast(Features, on.model)
    if len(pyramid) != len(model.channels):
        return [f"features returns {len(pyramid)} maps, expected {len(model.channels)}"]
    found = []
    for level, (channels, stride) in enumerate(zip(model.channels, model.strides, strict=True)):
        cells = -(-side // stride)
        name = f"features of a {side} px image, map {level} (stride {stride}),"
        found += check_tensor(name, pyramid[level], (BATCH, channels, cells, cells), on)
    return found


def _check_level_rows(model: Features, images: Tensor, pyramid: Sequence[Tensor]) -> Iterator[str]:
    """The rows of all maps together, since each map costs a forward pass."""

    def flat(batch: Tensor) -> Tensor:
        return torch.cat([level.flatten(1) for level in model.features(batch)], 1)

    together = torch.cat([level.flatten(1) for level in pyramid], 1)
    yield from check_rows("features", flat, images, together)


def check_pooled(on: Subject) -> Iterator[str]:
    """(B, D'): one vector per image."""
    model = cast(Features, on.model)
    pooled = model.pooled(on.images)
    if faults := check_tensor("pooled", pooled, (BATCH, None), on):
        yield from faults
    else:
        yield from check_rows("pooled", model.pooled, on.images, pooled)
        yield from _check_other_sides("pooled", model.pooled, pooled.shape, on)


def _check_other_sides(
    name: str, outputs: Callable[[Tensor], Tensor], shape: Sequence[int | None], on: Subject
) -> Iterator[str]:
    """A model of any input size has this output for inputs of another size too."""
    for side in on.other_sides:
        try:
            found = outputs(on.images_of_side(side))
        except Exception as error:  # of the author's code: any
            yield (
                f"{name} of a {side} px image fails ({type(error).__name__}: {error}): set "
                "`fixed_size = True`, or accept any multiple of the last stride"
            )
            return
        yield from check_tensor(f"{name} of a {side} px image", found, tuple(shape), on)


def check_embeds(on: Subject) -> Iterator[str]:
    """Images and texts are rows of length 1 and of one width; a text ignores the others."""
    model = cast(Embeds, on.model)
    images, texts = model.embed_images(on.images), model.embed_texts(TEXTS)
    faults = [
        *check_tensor("embed_images", images, (BATCH, None), on),
        *check_tensor("embed_texts", texts, (len(TEXTS), None), on),
    ]
    if faults:
        yield from faults
        return
    if images.shape[1] != texts.shape[1]:
        yield f"embed_images has width {images.shape[1]}, but embed_texts {texts.shape[1]}"
    for name, rows in (("embed_images", images), ("embed_texts", texts)):
        if (lengths := rows.norm(dim=1)).sub(1).abs().max() > 1e-4:
            yield (
                f"{name} has rows of length {lengths[0]:.4g}, expected 1: end with "
                "`torch.nn.functional.normalize(x, dim=-1)`"
            )
    yield from check_rows("embed_images", model.embed_images, on.images, images)
    yield from _check_other_sides("embed_images", model.embed_images, images.shape, on)
    yield from _check_texts(model, texts, on)


def _check_texts(model: Embeds, together: Tensor, on: Subject) -> Iterator[str]:
    alone = torch.cat([model.embed_texts([text]) for text in TEXTS])
    if not same(alone, together, TOLERANCE):
        yield "embed_texts depends on the other texts: padding must not change an embedding"
    if same(together[:1], together[1:2], 1e-6):
        yield f"embed_texts is the same for {TEXTS[0]!r} and {TEXTS[1]!r}: it ignores the text"
    long = model.embed_texts([LONG_TEXT])
    yield from check_tensor("embed_texts of a text of 800 words", long, (1, None), on)


def check_matches(on: Subject) -> Iterator[str]:
    """(B, T) probabilities; a finding ignores the others, unless `matches_jointly`."""
    model = cast(Matches, on.model)
    together = model.match(on.images, FINDINGS)
    if faults := check_tensor("match", together, (BATCH, len(FINDINGS)), on):
        yield from faults
        return
    if together.min() < 0 or together.max() > 1:
        low, high = float(together.min()), float(together.max())
        yield f"match has values from {low:.3g} to {high:.3g}, expected probabilities in [0, 1]"
    yield from check_rows("match", lambda x: model.match(x, FINDINGS), on.images, together)
    yield from _check_other_sides("match", lambda x: model.match(x, FINDINGS), together.shape, on)
    jointly = getattr(model, "matches_jointly", False)
    if not jointly and not same(model.match(on.images, FINDINGS[1:2]), together[:, 1:2], TOLERANCE):
        yield "match of a finding depends on the other findings that are asked for"


def check_locates(on: Subject) -> Iterator[str]:
    """(B, T, h, w) maps; a text ignores the others."""
    model = cast(Locates, on.model)
    if not isinstance(model.grounding, Grounding):
        yield f"grounding is a {type(model.grounding).__name__}, expected g2dbench.Grounding"
    together = model.locate(on.images, TEXTS)
    if faults := check_tensor("locate", together, (BATCH, len(TEXTS), None, None), on):
        yield from faults
        return
    if together.shape[2] != together.shape[3]:
        yield f"locate has a grid of {tuple(together.shape[2:])}, expected a square"
    if together[0, 0].numel() == 1:
        yield "locate has a grid of one cell: it cannot locate anything"
    yield from check_rows("locate", lambda x: model.locate(x, TEXTS), on.images, together)
    any_grid = (BATCH, len(TEXTS), None, None)
    yield from _check_other_sides("locate", lambda x: model.locate(x, TEXTS), any_grid, on)
    if not same(model.locate(on.images, TEXTS[1:2]), together[:, 1:2], TOLERANCE):
        yield "locate of a text depends on the other texts that are asked for"


def check_decodes(on: Subject) -> Iterator[str]:
    """(B, 1, S, S) logits by a copy of the decoder."""
    decoder = cast(Decodes, on.model).pretrained_decoder()
    if not isinstance(decoder, nn.Module):
        yield f"pretrained_decoder returns a {type(decoder).__name__}, expected an nn.Module"
        return
    own = {weight.data_ptr() for weight in on.model.parameters()}
    if any(weight.data_ptr() in own for weight in decoder.parameters()):
        yield "pretrained_decoder shares weights with the model: return a deep copy"
    pyramid = cast(Features, on.model).features(on.images)
    logits = decoder.to(on.device).eval()(pyramid)
    yield from check_tensor("the decoder", logits, (BATCH, 1, on.size, on.size), on)


def check_half_precision(on: Subject) -> Iterator[str]:
    """Under bfloat16 autocast, outputs are finite and near those of float32."""
    model = on.model
    with torch.autocast(on.device.type, dtype=torch.bfloat16):
        if isinstance(model, Features):
            half = model.pooled(on.images)
        elif isinstance(model, Embeds):
            half = model.embed_images(on.images)
        elif isinstance(model, Matches):
            half = model.match(on.images, FINDINGS)
        else:
            return
    if not bool(half.isfinite().all()):
        yield "under bfloat16 autocast (`eval --precision bf16`), the output contains NaN"
