"""The embedded data set: chest radiographs drawn by this program, with reports, boxes and masks.

No download and no licence stand between a reader and a first result. An image is a pure function
of (seed, index); its scene does not depend on its size. Every finding's label is the truth of the
image, which the report may hedge or leave out, as reports do.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from g2dbench.cards import DatasetCard
from g2dbench.data.synthetic._anatomy import draw_chest
from g2dbench.data.synthetic._canvas import Board
from g2dbench.data.synthetic._film import add_device, develop
from g2dbench.data.synthetic._findings import BY_SIDES, paint
from g2dbench.data.synthetic._report import write_report
from g2dbench.data.synthetic._scene import Scene, draw_scene, split_of
from g2dbench.errors import Misuse
from g2dbench.sample import ABSENT, PRESENT, Box, Sample
from g2dbench.system.worker_pool import process_pool

__all__ = ["CARD", "boxes_of", "draw", "generate_many", "render", "split_of"]

CARD = DatasetCard(
    name="synthetic",
    summary="Chest radiographs drawn by this program, with findings, masks, boxes and reports.",
    offers=("reports", "labels", "boxes", "masks"),
    findings=(
        "consolidation",
        "pleural effusion",
        "pneumothorax",
        "nodule",
        "cardiomegaly",
        "atelectasis",
        "foreign object",
    ),
    url="g2dbench/data/synthetic/synthetic.py",
    licence="Apache-2.0",
    embedded=True,
)

SIZES = (64, 1024)
"""Smallest and largest side of an image, in pixels."""


def draw(index: int, size: int, seed: int = 0) -> Sample:
    """Image number `index`, `size` pixels square, with everything known about it.

    Raises:
        Misuse: the index is negative, or the size is not within SIZES.
    """
    if index < 0 or not SIZES[0] <= size <= SIZES[1]:
        raise Misuse(
            f"synthetic image {index} at {size} px was asked for; an index starts at 0 and a size "
            f"lies within {SIZES[0]} and {SIZES[1]}"
        )
    scene = draw_scene(index, seed)
    image, masks = render(scene, size)
    return Sample(
        id=f"s{seed}-i{index:06d}",
        image=image,
        patient=scene.patient,
        study=scene.study,
        view=scene.film.view,
        sex=scene.sex,
        age=scene.age,
        split=split_of(scene.patient),
        report=write_report(scene),
        labels={name: PRESENT if name in masks else ABSENT for name in CARD.findings},
        boxes=tuple(box for name, mask in masks.items() for box in boxes_of(name, mask)),
        masks=masks,
    )


def render(scene: Scene, size: int) -> tuple[NDArray[np.uint8], Mapping[str, NDArray[np.bool_]]]:
    """The pixels of a scene, (size, size) uint8, and the (size, size) mask of each finding."""
    film = scene.film
    board = Board(size, tilt=film.tilt, zoom=film.zoom, shift=film.shift)
    chest = draw_chest(board, scene.body)
    masks: dict[str, NDArray[np.bool_]] = {}
    for name in CARD.findings:
        for item in scene.findings.get(name, ()):
            mask = paint(board, scene.body, chest, item)
            masks[name] = mask | masks[name] if name in masks else mask
    for device in scene.devices:
        add_device(board, scene.body, chest, device)
    return develop(board, chest, film, scene.key), masks


def boxes_of(finding: str, mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    """The tight box of each connected part of an (H, W) mask; corners connect."""
    parts, _ = ndimage.label(mask, BY_SIDES)
    return tuple(
        Box(finding, float(x.start), float(y.start), float(x.stop), float(y.stop))
        for y, x in ndimage.find_objects(parts)
    )


def generate_many(
    indices: Sequence[int], size: int, seed: int = 0, workers: int = 0
) -> Iterator[Sample]:
    """Images in the order of `indices`, drawn by `workers` processes, or in this one for 0.

    The result does not depend on `workers`; few images are in memory at a time. Processes are
    spawned, so that threads of the caller do no harm: a script that asks for workers keeps its
    own work below `if __name__ == "__main__"`.
    """
    one = partial(draw, size=size, seed=seed)
    if workers == 0:
        yield from map(one, indices)
        return
    pending = iter(indices)
    with process_pool(workers) as processes:
        while batch := list(islice(pending, 64 * workers)):
            yield from processes.map(one, batch, chunksize=8)
