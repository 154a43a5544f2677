"""Loads image-report pairs of a data set in an order that can be resumed at any batch.

Shapes: N pairs, B pairs of a batch, S image side, L tokens of a batch, C channels.
The order of epoch e is a pure function of (seed, e, N), the augmentation of an image one of (seed,
e, its position in the data set): neither depends on workers, device or interruptions. In training
the last, incomplete batch of an epoch is dropped; the next epoch has another order.
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
from g2dbench.recipes.recipe import AugmentPolicy
from g2dbench.sample import Sample, ViewFilter, is_frontal
from g2dbench.training.batches.augmentation import RANDOM_NUMBERS, augment
from g2dbench.training.batches.collate import (
    Collator,
    LoaderSettings,
    TokenizedReports,
    ignore_interrupts,
)

CACHE_BYTES = 2 * 2**30
"""Scaled images are cached in memory up to this size; larger sets are read again every epoch."""

ORDER_STREAM, AUGMENT_STREAM = 1, 2
"""Random streams of an epoch: the order of its pairs, and the augmentation of its images."""

_CHUNK = 1024


@dataclass(frozen=True)
class Pairs:
    """Images that have a report, in data set order, with cleaned reports.

    groups: one row (study, report) per pair; in retrieval, pairs that share either are correct.
    """

    dataset: Dataset
    reports: tuple[str, ...]
    ids: tuple[str, ...]
    groups: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.reports)

    def first(self, count: int) -> "Pairs":
        """These pairs, or the first `count` of them."""
        if len(self) <= count:
            return self
        dataset = self.dataset.take(range(count))
        return Pairs(dataset, self.reports[:count], self.ids[:count], self.groups[:count])


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
    """The pairs of the training split; raises BadData if there are none, Misuse for too few."""
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


class CroppedImages(data.Dataset[Tensor]):
    """Images cropped and scaled by a model's `preprocess`, not normalized: (S, S) uint8."""

    def __init__(self, dataset: Dataset | Sequence[Sample], preprocess: Preprocess) -> None:
        self._dataset, self._preprocess = dataset, preprocess

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._preprocess.resized(self._dataset[index].image))


Images = CroppedImages | Tensor
"""Images by their row, (S, S) uint8 each."""


class AugmentedImages(data.Dataset[Tensor]):
    """Images as augmented in one epoch, (S, S) uint8; uniform: (N, `RANDOM_NUMBERS`)."""

    def __init__(self, images: Images, uniform: NDArray[np.float64], policy: AugmentPolicy) -> None:
        self._images, self._random_numbers, self._policy = images, uniform, policy

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Tensor:
        augmented = augment(self._images[row].numpy(), self._random_numbers[row], self._policy)
        return torch.from_numpy(augmented)


class PairLoader:
    """Batches of pairs on the device, augmented in training."""

    def __init__(self, pairs: Pairs, settings: LoaderSettings) -> None:
        self._pairs, self._settings = pairs, settings
        self._tokens = TokenizedReports(pairs.reports, settings.tokenize)
        self._cropped = CroppedImages(pairs.dataset, settings.preprocess)
        self._cached: Tensor | None = None
        self._collator = Collator(settings.preprocess, settings.device)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return len(self._pairs) // (self._settings.batch_size * self._settings.world_size)

    def order(self, epoch: int) -> Tensor:
        """Rows of this process in an epoch, (steps, B)."""
        settings = self._settings
        shuffled = _epoch_generator(settings.seed, ORDER_STREAM, epoch).permutation(
            len(self._pairs)
        )
        used = shuffled[: self.steps * settings.world_size * settings.batch_size]
        shares = used.reshape(self.steps, settings.world_size, settings.batch_size)
        return torch.from_numpy(shares[:, settings.rank].copy())

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from batch `first` on."""
        uniform = augmentation_numbers(self._settings.seed, epoch, len(self._pairs))
        batches = list(self.order(epoch)[first:])
        pixels = self._fetch(
            AugmentedImages(self._images(), uniform, self._settings.policy), batches
        )
        for at, (rows, augmented) in enumerate(zip(batches, pixels, strict=True), first):
            yield self._batch(rows, augmented, epoch * self.steps + at)

    def unaugmented(self, step: int = 0) -> Iterator[Batch]:
        """All pairs in order, without augmentation; the last batch may be smaller."""
        batches = list(torch.arange(len(self._pairs)).split(self._settings.batch_size))
        for rows, pixels in zip(batches, self._fetch(self._images(), batches), strict=True):
            yield self._batch(rows, pixels, step)

    def groups(self, ids: Sequence[str]) -> NDArray[np.object_]:
        """Study and report, (B, 2), of the pairs with these ids."""
        return self._pairs.groups[[self._row_by_id[name] for name in ids]]

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._pairs.ids)}

    def _images(self) -> Images:
        """All images, (S, S) uint8 each: in memory if they fit, else read one by one."""
        if len(self._pairs) * self._settings.preprocess.size**2 > CACHE_BYTES:
            return self._cropped
        if self._cached is None:
            chunks = torch.arange(len(self._pairs)).split(_CHUNK)
            self._cached = torch.cat(list(self._fetch(self._cropped, list(chunks))))
        return self._cached

    def _fetch(self, images: Images | AugmentedImages, batches: list[Tensor]) -> Iterator[Tensor]:
        """Pixels (B, S, S) uint8 of each batch, read by the workers or by this process."""
        return iter(
            data.DataLoader(
                images,  # type: ignore[arg-type]  # a tensor is a sequence of its rows
                batch_sampler=[rows.tolist() for rows in batches],
                num_workers=self._settings.workers,
                worker_init_fn=ignore_interrupts,
                generator=torch.Generator(),
                pin_memory=self._settings.device.type == "cuda",
            )
        )

    def _batch(self, rows: Tensor, pixels: Tensor, step: int) -> Batch:
        """Collate pixels (B, S, S) uint8 with the reports of their rows."""
        ids = tuple(self._pairs.ids[row] for row in rows.tolist())
        return self._collator.batch(pixels, *self._tokens.batch(rows), ids, step)


def augmentation_numbers(seed: int, epoch: int, pairs: int) -> NDArray[np.float64]:
    """The uniform numbers that augment the images of an epoch, (N, `RANDOM_NUMBERS`)."""
    return _epoch_generator(seed, AUGMENT_STREAM, epoch).random((pairs, RANDOM_NUMBERS))


def _epoch_generator(seed: int, stream: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, stream, epoch]))


def _text(value: object) -> str | None:
    """The text of a table cell; an empty cell is None or NaN in pandas."""
    return value if isinstance(value, str) else None
