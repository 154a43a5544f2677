"""Loader workers read, decode and augment blocks of neighboring rows of a shard.

Shapes: n rows of a block, S image side. The content of a block depends only on its request and the
shard: not on the worker that reads it, nor on which of its rows were read before.
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
from g2dbench.data.shards.files import BLOCK_ROWS, RowMetadata, ShardReader, open_shard
from g2dbench.data.shards.index import Kind
from g2dbench.errors import BadData, G2DBenchError
from g2dbench.preprocess import Preprocess
from g2dbench.recipes.recipe import AugmentPolicy
from g2dbench.sample import Sample
from g2dbench.training.batches.augmentation import RANDOM_NUMBERS
from g2dbench.training.batches.pair_loader import AUGMENT_STREAM, AugmentedImages, CroppedImages


@dataclass(frozen=True)
class ShardFormat:
    """What all shards of a data set have in common; side: images are reduced to this, in pixels."""

    kind: Kind
    columns: Columns
    side: int
    cleaning: CleaningName


@dataclass(frozen=True)
class BlockRequest:
    """The rows of a block to read. shard: its number; where: its address; path: its local file.

    usable: all rows of the block that are pairs, ascending; wanted: those to read now.
    """

    shard: int
    where: str
    path: Path
    usable: tuple[int, ...]
    wanted: tuple[int, ...]


class UnreadableRow(NamedTuple):
    """A row whose image cannot be read, and why."""

    row: int
    reason: str


class Block(NamedTuple):
    """The wanted rows of a request: ids, (study or id, report), and pixels (n, S, S) uint8."""

    request: BlockRequest
    ids: list[str]
    groups: list[tuple[str, str]]
    pixels: NDArray[np.uint8]
    unreadable: list[UnreadableRow]


def read_samples(
    shard_format: ShardFormat, request: BlockRequest
) -> tuple[list[Sample], list[UnreadableRow]]:
    """A sample for each wanted row, with its cleaned report, and the rows that cannot be read.

    The next readable pair of the block (after its end: from its start) replaces an unreadable row.
    Raises BadData if there is none, or if texts or the whole shard are damaged.
    """
    reader = open_shard(request.path, shard_format.kind, request.where)
    metadata = dict(
        zip(request.usable, reader.metadata(request.usable, shard_format.columns), strict=True)
    )
    read: dict[int, Sample | UnreadableRow] = {}
    samples = []
    for row in request.wanted:
        at = request.usable.index(row)
        for candidate in (*request.usable[at:], *request.usable[:at]):
            if candidate not in read:
                read[candidate] = _read_row(
                    reader, candidate, metadata[candidate], shard_format, request
                )
            found = read[candidate]
            if isinstance(found, Sample):
                samples.append(found)
                break
        else:
            raise BadData(f"no image of its block can be read: {_first_reason(read)}")
    return samples, [found for found in read.values() if isinstance(found, UnreadableRow)]


def _read_row(
    reader: ShardReader,
    row: int,
    metadata: RowMetadata,
    shard_format: ShardFormat,
    request: BlockRequest,
) -> Sample | UnreadableRow:
    report = clean(metadata.report, shard_format.cleaning).text
    if not report:
        raise BadData(
            f"{request.where}, row {row} ({metadata.id}): the index counts it as a pair, but the "
            f"cleaning {shard_format.cleaning!r} keeps nothing of its report: the index is from "
            "another version of g2dbench; export the data set or build its index again"
        )
    (data,) = reader.images([row], shard_format.columns)
    try:
        if data is None:
            raise BadData("the row has no image")
        image, _ = decode_image(data, Path(metadata.id), shard_format.side)
    except (BadData, MemoryError) as error:
        return UnreadableRow(
            row, f"{request.where}, row {row} ({metadata.id}): {error or 'too large'}"
        )
    return Sample(
        id=metadata.id,
        image=image,
        patient=metadata.id,
        study=metadata.study,
        view=metadata.view,
        split=metadata.split,
        report=report,
    )


def _first_reason(read: dict[int, Sample | UnreadableRow]) -> str:
    return next(found.reason for found in read.values() if isinstance(found, UnreadableRow))


class BlockDataset(data.Dataset[Block | G2DBenchError]):
    """Blocks of an epoch, by request; errors are returned, as a DataLoader alters raised ones."""

    def __init__(
        self,
        shard_format: ShardFormat,
        preprocess: Preprocess,
        policy: AugmentPolicy,
        seed: int,
        epoch: int,
    ) -> None:
        self._shard_format, self._preprocess, self._policy = shard_format, preprocess, policy
        self._seed, self._epoch = seed, epoch

    def __getitem__(self, request: BlockRequest) -> Block | G2DBenchError:
        try:
            samples, unreadable = read_samples(self._shard_format, request)
        except G2DBenchError as error:
            return error
        # The wanted row decides the augmentation, even if another pair replaces an unreadable one.
        augmented = AugmentedImages(
            CroppedImages(samples, self._preprocess), self._random_numbers(request), self._policy
        )
        pixels = torch.stack([augmented[at] for at in range(len(samples))])
        groups = [(sample.study or sample.id, sample.report or "") for sample in samples]
        return Block(request, [sample.id for sample in samples], groups, pixels.numpy(), unreadable)

    def _random_numbers(self, request: BlockRequest) -> NDArray[np.float64]:
        """(n, `RANDOM_NUMBERS`), each row a function of (seed, epoch, shard, row)."""
        block = request.usable[0] // BLOCK_ROWS
        numbers = np.random.SeedSequence(
            [self._seed, AUGMENT_STREAM, self._epoch, request.shard, block]
        )
        table = np.random.default_rng(numbers).random((BLOCK_ROWS, RANDOM_NUMBERS))
        return table[[row % BLOCK_ROWS for row in request.wanted]]
