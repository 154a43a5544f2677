"""A stored sample at a smaller size: how one store serves every size below its own.

Deterministic: Pillow's bicubic filter works on whole numbers, with antialiasing, as when images are
prepared. Boxes are scaled; a mask keeps the pixels that it covers by at least half, and never
vanishes. The pixels are not those that preparing at the smaller size would give, since they were
resampled twice; that is why the fingerprint is another one.
"""

import hashlib
from dataclasses import replace

import numpy as np

from g2dbench.data.annotations.geometry import Geometry
from g2dbench.data.images.image_file import shrink
from g2dbench.sample import Sample


def shrunk(sample: Sample, size: int) -> Sample:
    """The sample with its short side reduced to `size` pixels; a smaller one as it is."""
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
    """The SHA-256, in hex, of a store's rows at a smaller size; it names both."""
    return hashlib.sha256(f"shrunk 1 {fingerprint} to {size}".encode()).hexdigest()
