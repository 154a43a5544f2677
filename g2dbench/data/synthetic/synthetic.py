"""The embedded data set: synthetic chest radiographs with reports, boxes and masks.

It needs no download and no license. An image is a pure function of (seed, index); its scene does
not depend on its size. Labels state what the image shows; as in real data, the report may hedge or
omit a finding.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from g2dbench.cards import DatasetCard
from g2dbench.data.synthetic._anatomy import draw_chest
from g2dbench.data.synthetic._canvas import Canvas
from g2dbench.data.synthetic._film import add_device, develop
from g2dbench.data.synthetic._findings import BY_SIDES, draw_finding
from g2dbench.data.synthetic._report import write_report
from g2dbench.data.synthetic._scene import Scene, draw_scene, split_of
from g2dbench.errors import Misuse
from g2dbench.sample import ABSENT, PRESENT, Box, Sample
from g2dbench.system.worker_pool import process_pool, result_of

__all__ = ["CARD", "boxes_of", "generate", "generate_many", "render", "split_of"]

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


def generate(index: int, size: int, seed: int = 0) -> Sample:
    """Generate image number `index`, of `size` x `size` pixels, with its report and annotations.

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
    """Render a scene: pixels (size, size) uint8, and a (size, size) mask for each finding."""
    film = scene.film
    canvas = Canvas(size, tilt=film.tilt, zoom=film.zoom, shift=film.shift)
    chest = draw_chest(canvas, scene.body)
    masks: dict[str, NDArray[np.bool_]] = {}
    for name in CARD.findings:
        for item in scene.findings.get(name, ()):
            mask = draw_finding(canvas, scene.body, chest, item)
            masks[name] = mask | masks[name] if name in masks else mask
    for device in scene.devices:
        add_device(canvas, scene.body, chest, device)
    return develop(canvas, chest, film, scene.key), masks


def boxes_of(finding: str, mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    """Return the tight box of each connected part of an (H, W) mask; corners connect pixels."""
    parts, _ = ndimage.label(mask, BY_SIDES)
    return tuple(
        Box(finding, float(x.start), float(y.start), float(x.stop), float(y.stop))
        for y, x in ndimage.find_objects(parts)
    )


def generate_many(
    indices: Sequence[int], size: int, seed: int = 0, workers: int = 0
) -> Iterator[Sample]:
    """Generate images in the order of `indices`, in `workers` processes, or in this one for 0.

    The result does not depend on `workers`; few images are in memory at a time. Processes are
    spawned: a script that uses workers must run its own code below
    `if __name__ == "__main__"`.
    """
    one = partial(generate, size=size, seed=seed)
    if workers == 0:
        yield from map(one, indices)
        return
    pending = iter(indices)
    with process_pool(workers) as processes:
        while batch := list(islice(pending, 64 * workers)):
            tasks = [processes.submit(one, index) for index in batch]
            for task in tasks:
                yield result_of(task, processes)
