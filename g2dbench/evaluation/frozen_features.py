"""Frozen encoder outputs: computed once, kept where they fit, the same bits whatever the batch.

Legend: N images, B images of one batch, S input side, D width, C channels, h w grid.

Every forward pass of a frozen encoder has one shape, `chunk_size(device)` images, the last chunk
filled up with copies of its last image. Kernels choose their order of summation by shape, so an
image's output then depends neither on `run.batch_size` nor on its neighbours: bit-identical on the
CPU (measured: ResNet-18, ResNet-50, ViT-S/16), and within the kernels' own determinism on a GPU.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.model import Features, Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from g2dbench.task import Run

Maps: TypeAlias = list[Tensor]
"""Tensors of one batch, each (B, ...): a pyramid, or one pooled feature."""

Encode: TypeAlias = Callable[[Tensor], Maps]
"""(B, C, S, S) -> Maps."""

CACHE_BYTES = 2 << 30
"""Pyramids of one part of a data set are kept in memory up to this size; a fit holds two parts."""

_CHUNK = {"cuda": 32}
_SMALL_CHUNK = 8


def chunk_size(device: torch.device) -> int:
    """Images in every forward pass of a frozen encoder: fixed, so that results are."""
    return _CHUNK.get(device.type, _SMALL_CHUNK)


class Frozen:
    """An encoder that is only read: eval mode, no gradient, one shape for every call.

    The model moves to the run's device. `encode` is one of its methods, or a part of one, such as
    `lambda images: model.features(images)[-3:]`.
    """

    def __init__(self, model: Model, encode: Encode, preprocess: Preprocess, run: Run[Any]) -> None:
        model.to(run.device).eval()
        self.preprocess = preprocess
        self._encode = encode
        self._run = run
        self.chunk = chunk_size(run.device)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Maps:
        """(H, W) uint8 images of any number and sizes -> maps (B, ...) on the run's device."""
        parts = [
            self._forward(images[start : start + self.chunk])
            for start in range(0, len(images), self.chunk)
        ]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def _forward(self, images: Sequence[NDArray[np.uint8]]) -> Maps:
        inputs = self.preprocess.batch(list(images))
        spare = self.chunk - len(images)
        full = torch.cat([inputs, inputs[-1:].expand(spare, -1, -1, -1)])
        # Not inference mode: its tensors may not take part in a head's backward pass.
        with torch.no_grad(), self._run.autocast():
            maps = self._encode(full.to(self._run.device))
        return [level[: len(images)] for level in maps]


def stream(
    frozen: Frozen, dataset: Dataset, run: Run[Any], title: str
) -> Iterator[tuple[list[Sample], Maps]]:
    """Chunk by chunk: the samples, and what the encoder makes of them, on the run's device."""
    starts = range(0, len(dataset), frozen.chunk)
    for start in run.progress(starts, title, len(starts)):
        stop = min(start + frozen.chunk, len(dataset))
        samples = [dataset[index] for index in range(start, stop)]
        yield samples, frozen([sample.image for sample in samples])


def extract(frozen: Frozen, dataset: Dataset, run: Run[Any], title: str) -> Tensor:
    """The first map of every image, (N, ...) float32 on the CPU, in the data set's order.

    BadData where the encoder gives a number that is not finite.
    """
    parts = [maps[0].float().cpu() for _, maps in stream(frozen, dataset, run, title)]
    if not parts:
        raise BadData(f"{dataset.card.name} has no images to encode ({title})")
    whole = torch.cat(parts)
    finite = torch.isfinite(whole).flatten(1).all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise BadData(
            f"the encoder's output for image {dataset.table['id'].iloc[row]} of "
            f"{dataset.card.name} is not finite: check the weights, or use --precision fp32"
        )
    return whole


def pooled(model: Model, dataset: Dataset, run: Run[Any], title: str) -> Tensor:
    """(N, D) float32 on the CPU: the model's pooled features under its own preprocessing."""
    assert isinstance(model, Features)
    pool = model.pooled
    frozen = Frozen(model, lambda images: [pool(images)], model.preprocess, run)
    return extract(frozen, dataset, run, title)


def products(rows: Tensor, columns: Tensor) -> NDArray[np.float64]:
    """(N, D) and (K, D) on the CPU -> (N, K) inner products in double precision.

    Summed row by row: a BLAS product rounds a row by its place in the matrix, and a score would
    depend on the order of the images.
    """
    one, other = rows.double().numpy(), columns.double().numpy()
    return np.asarray(np.einsum("nd,kd->nk", one, other, optimize=False))


class Pyramids:
    """Feature pyramids of a data set, served by batches of positions.

    Kept in memory in the encoder's own precision while they fit `budget` bytes, else encoded again
    for every batch, which gives the same numbers. Without augmentation both are exact.
    """

    def __init__(
        self, frozen: Frozen, dataset: Dataset, run: Run[Any], title: str, budget: int = CACHE_BYTES
    ) -> None:
        self._frozen = frozen
        self._dataset = dataset
        self._run = run
        self._kept: Maps | None = None
        if self._bytes() <= budget:
            self._kept = self._all(title)

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def cached(self) -> bool:
        """Whether the pyramids are in memory."""
        return self._kept is not None

    def batch(self, positions: Sequence[int] | Tensor) -> Maps:
        """Float32 pyramids of the images at these positions, (B, C, h, w) on the run's device."""
        rows = torch.as_tensor(positions, dtype=torch.int64)
        if self._kept is None:
            maps = self._frozen([self._dataset[int(row)].image for row in rows])
        else:
            maps = [level[rows] for level in self._kept]
        return [level.to(self._run.device).float() for level in maps]

    def _bytes(self) -> int:
        if len(self) == 0:
            return 0
        one = self._frozen([self._dataset[0].image])
        return len(self) * sum(level.nbytes for level in one)

    def _all(self, title: str) -> Maps:
        kept: Maps = []
        start = 0
        for samples, maps in stream(self._frozen, self._dataset, self._run, title):
            if not kept:
                kept = [
                    level.new_empty((len(self), *level.shape[1:]), device="cpu") for level in maps
                ]
            for whole, level in zip(kept, maps, strict=True):
                whole[start : start + len(samples)] = level.cpu()
            start += len(samples)
        return kept
