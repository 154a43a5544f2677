"""Neighbouring rows of a shard, read, decoded and varied: what a loader worker does for a stream.

Shapes: n rows of a block, S image side. A block is found by numbers alone, and what it holds is a
function of them and of the shard: not of who reads it, or of which of its rows were read before.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data

from g2dbench.data.images.image_file import decode_image
from g2dbench.data.reports.cleaning import CleaningName, clean
from g2dbench.data.shards.columns import Columns
from g2dbench.data.shards.files import BLOCK, Rows, Told, open_shard
from g2dbench.data.shards.index import Kind
from g2dbench.errors import BadData, G2DBenchError
from g2dbench.preprocess import Preprocess
from g2dbench.recipes.recipe import Policy
from g2dbench.sample import Sample
from g2dbench.training.batches.augmentation import DRAWS
from g2dbench.training.batches.pair_loader import AUGMENT, Pixels, Varied


@dataclass(frozen=True)
class Layout:
    """What all shards of a data set have in common; side: images are reduced to it, in pixels."""

    kind: Kind
    columns: Columns
    side: int
    cleaning: CleaningName


@dataclass(frozen=True)
class Task:
    """A block. shard: its number; where: its address; path: where it lies on this machine.

    usable: the rows of the block that are pairs, ascending; wanted: those to be read now.
    """

    shard: int
    where: str
    path: Path
    usable: tuple[int, ...]
    wanted: tuple[int, ...]


class Broken(NamedTuple):
    """A row whose image cannot be read, and why."""

    row: int
    reason: str


class Block(NamedTuple):
    """The wanted rows of a task: (study or id, report) and id of each, pixels (n, S, S) uint8."""

    task: Task
    ids: list[str]
    groups: list[tuple[str, str]]
    pixels: NDArray[np.uint8]
    broken: list[Broken]


def read_samples(layout: Layout, task: Task) -> tuple[list[Sample], list[Broken]]:
    """A sample for each wanted row, with its cleaned report, and the rows that cannot be read.

    The place of such a row is taken by the next pair of the block that can be read, round its end.
    BadData where there is none, or where texts or the shard as a whole are broken.
    """
    rows = open_shard(task.path, layout.kind, task.where)
    told = dict(zip(task.usable, rows.told(task.usable, layout.columns), strict=True))
    read: dict[int, Sample | Broken] = {}
    samples = []
    for row in task.wanted:
        at = task.usable.index(row)
        for candidate in (*task.usable[at:], *task.usable[:at]):
            if candidate not in read:
                read[candidate] = _read(rows, candidate, told[candidate], layout, task)
            found = read[candidate]
            if isinstance(found, Sample):
                samples.append(found)
                break
        else:
            raise BadData(f"none of the images around {_first_reason(read)} can be read")
    return samples, [found for found in read.values() if isinstance(found, Broken)]


def _read(rows: Rows, row: int, told: Told, layout: Layout, task: Task) -> Sample | Broken:
    report = clean(told.report, layout.cleaning).text
    if not report:
        raise BadData(
            f"{task.where}, row {row} ({told.id}): the index counts it as a pair, but the cleaning "
            f"{layout.cleaning!r} keeps nothing of its report: it was made by another g2dbench; "
            "export or count the data set anew"
        )
    (data,) = rows.images([row], layout.columns)
    try:
        if data is None:
            raise BadData("it holds no image")
        image, _ = decode_image(data, Path(told.id), layout.side)
    except (BadData, MemoryError) as error:
        return Broken(row, f"{task.where}, row {row} ({told.id}): {error or 'too large'}")
    return Sample(
        id=told.id,
        image=image,
        patient=told.id,
        study=told.study,
        view=told.view,
        split=told.split,
        report=report,
    )


def _first_reason(read: dict[int, Sample | Broken]) -> str:
    return next(found.reason for found in read.values() if isinstance(found, Broken))


class Blocks(data.Dataset[Block | G2DBenchError]):
    """The blocks of an epoch by their task; an error is a result, so that a worker's is whole."""

    def __init__(
        self, layout: Layout, preprocess: Preprocess, policy: Policy, seed: int, epoch: int
    ) -> None:
        self._layout, self._preprocess, self._policy = layout, preprocess, policy
        self._seed, self._epoch = seed, epoch

    def __getitem__(self, task: Task) -> Block | G2DBenchError:
        try:
            samples, broken = read_samples(self._layout, task)
        except G2DBenchError as error:
            return error
        # Each pair's own row is what varies it, also where another took its place.
        varied = Varied(Pixels(samples, self._preprocess), self._draws(task), self._policy)
        pixels = torch.stack([varied[at] for at in range(len(samples))])
        groups = [(sample.study or sample.id, sample.report or "") for sample in samples]
        return Block(task, [sample.id for sample in samples], groups, pixels.numpy(), broken)

    def _draws(self, task: Task) -> NDArray[np.float64]:
        """(n, `DRAWS`), each row by (seed, epoch, shard, row)."""
        block = task.usable[0] // BLOCK
        numbers = np.random.SeedSequence([self._seed, AUGMENT, self._epoch, task.shard, block])
        table = np.random.default_rng(numbers).random((BLOCK, DRAWS))
        return table[[row % BLOCK for row in task.wanted]]
