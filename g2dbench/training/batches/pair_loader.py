"""Image-report pairs in an order that can be taken up again anywhere.

Shapes: N pairs, B pairs of a batch, S image side, L tokens of a batch, C channels.
The order of epoch e is a pure function of (seed, e, N), an image's augmentation one of (seed, e,
its position in the data set): nothing depends on workers, on the device or on where an epoch was
interrupted. Reports are tokenised once. In training the last, incomplete batch of an epoch is
dropped; its pairs come up in the next epoch, whose order is another one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data

from g2dbench.data.reports.cleaning import DEFAULT, CleaningName, clean
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, Misuse
from g2dbench.method import Batch
from g2dbench.preprocess import Preprocess
from g2dbench.recipes.recipe import Policy
from g2dbench.sample import Sample, ViewFilter, is_frontal
from g2dbench.training.batches.augmentation import DRAWS, augment
from g2dbench.training.batches.collate import Batching, Press, Tokens, deaf

KEPT_BYTES = 2 * 2**30
"""Scaled images are kept in memory up to this size; larger sets are read again every epoch."""

ORDER, AUGMENT = 1, 2
"""Streams of random numbers of an epoch: its order, and how it varies its images."""

_CHUNK = 1024


@dataclass(frozen=True)
class Pairs:
    """Images that have a report, in data set order; reports are cleaned.

    groups: one row (study, report) per pair, for retrieval: pairs that share either are right.
    """

    dataset: Dataset
    reports: tuple[str, ...]
    ids: tuple[str, ...]
    groups: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.reports)

    def first(self, most: int) -> "Pairs":
        """These pairs, or the first `most` of them."""
        if len(self) <= most:
            return self
        dataset = self.dataset.take(range(most))
        return Pairs(dataset, self.reports[:most], self.ids[:most], self.groups[:most])


def find_pairs(dataset: Dataset, views: ViewFilter, cleaning: CleaningName = DEFAULT) -> Pairs:
    """The pairs of a data set; an image of unknown view counts as frontal. May be empty."""
    table = dataset.table
    reports = [clean(_text(report), cleaning).text for report in table["report"]]
    wanted = [views == "all" or is_frontal(_text(view)) for view in table["view"]]
    rows = [row for row, report in enumerate(reports) if report and wanted[row]]
    found = tuple(reports[row] or "" for row in rows)
    chosen = dataset.take(rows)
    ids = tuple(str(name) for name in table["id"].iloc[rows])
    studies = [
        _text(study) or name for study, name in zip(table["study"].iloc[rows], ids, strict=True)
    ]
    groups = np.array(list(zip(studies, found, strict=True)), dtype=object).reshape(-1, 2)
    return Pairs(chosen, found, ids, groups)


def training_pairs(
    dataset: Dataset, views: ViewFilter, batch_size: int, cleaning: CleaningName = DEFAULT
) -> Pairs:
    """The pairs of the training split; BadData where there are none, Misuse for too few."""
    found = find_pairs(dataset.split("train"), views, cleaning)
    name = dataset.card.name
    if not found.reports:
        raise BadData(
            f"data set {name!r} has no {views} training image with a report that the cleaning "
            f"{cleaning!r} keeps, which pre-training needs: choose a data set with reports "
            f"(`g2dbench list data`), or see `g2dbench data show {name} --cleaning {cleaning}`"
        )
    if len(found) < batch_size:
        raise Misuse(
            f"data set {name!r} has {len(found)} training pairs, fewer than one batch of "
            f"{batch_size}: --set optim.batch_size={max(2, len(found) // 2)}"
        )
    return found


class Pixels(data.Dataset[Tensor]):
    """Images as a model's `preprocess` cuts them, before it normalises: (S, S) uint8."""

    def __init__(self, dataset: Dataset | Sequence[Sample], preprocess: Preprocess) -> None:
        self._dataset, self._preprocess = dataset, preprocess

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._preprocess.resized(self._dataset[index].image))


Images = Pixels | Tensor
"""Images by their row, (S, S) uint8 each."""


class Varied(data.Dataset[Tensor]):
    """Images as an epoch varies them, (S, S) uint8; draws: (N, `DRAWS`)."""

    def __init__(self, images: Images, draws: NDArray[np.float64], policy: Policy) -> None:
        self._images, self._draws, self._policy = images, draws, policy

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Tensor:
        varied = augment(self._images[row].numpy(), self._draws[row], self._policy)
        return torch.from_numpy(varied)


class Loader:
    """Batches of pairs on the device, augmented in training."""

    def __init__(self, pairs: Pairs, how: Batching) -> None:
        self._pairs, self._how = pairs, how
        self._tokens = Tokens(pairs.reports, how.tokenize)
        self._pixels = Pixels(pairs.dataset, how.preprocess)
        self._kept: Tensor | None = None
        self._press = Press(how.preprocess, how.device)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return len(self._pairs) // (self._how.batch_size * self._how.world)

    def order(self, epoch: int) -> Tensor:
        """This process's rows of an epoch, (steps, B)."""
        how = self._how
        shuffled = _generator(how.seed, ORDER, epoch).permutation(len(self._pairs))
        used = shuffled[: self.steps * how.world * how.batch_size]
        shares = used.reshape(self.steps, how.world, how.batch_size)
        return torch.from_numpy(shares[:, how.rank].copy())

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from batch `first` on."""
        draws = _generator(self._how.seed, AUGMENT, epoch).random((len(self._pairs), DRAWS))
        batches = list(self.order(epoch)[first:])
        pixels = self._fetch(Varied(self._images(), draws, self._how.policy), batches)
        for at, (rows, varied) in enumerate(zip(batches, pixels, strict=True), first):
            yield self._batch(rows, varied, epoch * self.steps + at)

    def plain(self, step: int = 0) -> Iterator[Batch]:
        """All pairs in order, as they are; the last batch may be smaller."""
        batches = list(torch.arange(len(self._pairs)).split(self._how.batch_size))
        for rows, pixels in zip(batches, self._fetch(self._images(), batches), strict=True):
            yield self._batch(rows, pixels, step)

    def words(self, ids: Sequence[str]) -> NDArray[np.object_]:
        """Study and report, (B, 2), of pairs by their ids."""
        return self._pairs.groups[[self._row_of[name] for name in ids]]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._pairs.ids)}

    def _images(self) -> Images:
        """All images, (S, S) uint8 each: in memory where they fit, else read one by one."""
        if len(self._pairs) * self._how.preprocess.size**2 > KEPT_BYTES:
            return self._pixels
        if self._kept is None:
            chunks = torch.arange(len(self._pairs)).split(_CHUNK)
            self._kept = torch.cat(list(self._fetch(self._pixels, list(chunks))))
        return self._kept

    def _fetch(self, images: Images | Varied, batches: list[Tensor]) -> Iterator[Tensor]:
        """Pixels (B, S, S) uint8 of each batch, by `workers` processes or this one."""
        return iter(
            data.DataLoader(
                images,  # type: ignore[arg-type]  # a tensor is a sequence of its rows
                batch_sampler=[rows.tolist() for rows in batches],
                num_workers=self._how.workers,
                worker_init_fn=deaf,
                generator=torch.Generator(),
                pin_memory=self._how.device.type == "cuda",
            )
        )

    def _batch(self, rows: Tensor, pixels: Tensor, step: int) -> Batch:
        """Pixels (B, S, S) uint8 joined with the reports of their rows."""
        ids = tuple(self._pairs.ids[row] for row in rows.tolist())
        return self._press.batch(pixels, *self._tokens.batch(rows), ids, step)


def _generator(seed: int, stream: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, stream, epoch]))


def _text(value: object) -> str | None:
    """A table's cell as text; pandas has None or NaN where there is none."""
    return value if isinstance(value, str) else None
