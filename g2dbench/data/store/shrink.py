"""Reduces stored samples to a smaller size, so that one store serves all smaller sizes.

The result is deterministic: Pillow's bicubic filter uses integer arithmetic, with antialiasing, as
in preparing. Boxes are scaled; a mask keeps the pixels that it covers by at least half, and at
least one. Preparing at the smaller size would give other pixels, because these are resampled
twice; the fingerprint is therefore a different one.
"""

import hashlib
from dataclasses import replace

import numpy as np

from g2dbench.data.annotations.geometry import Geometry
from g2dbench.data.images.image_file import shrink
from g2dbench.sample import Sample


def shrunk(sample: Sample, size: int) -> Sample:
    """Return the sample with its short side reduced to `size` pixels, or itself if not larger."""
    before = sample.image.shape
    image = np.array(shrink(sample.image, size))
    if image.shape == before:
        return sample
    way = Geometry(before, (0, 0, *before), image.shape)
    boxes, masks = sample.boxes, sample.masks
    return replace(
        sample,
        image=image,
        boxes=None if boxes is None else tuple(way.box(box, before) for box in boxes),
        masks=None if masks is None else {name: way.mask(masks[name], before) for name in masks},
    )


def shrunk_fingerprint(fingerprint: str, size: int) -> str:
    """Return the fingerprint of a store's rows at a smaller size, a SHA-256 in hex."""
    return hashlib.sha256(f"shrunk 1 {fingerprint} to {size}".encode()).hexdigest()
