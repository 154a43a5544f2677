"""Outputs of a frozen encoder, cached on disk and in memory, bit-identical for any batch size.

Legend: N images, B images of one batch, S input side, D width, C channels, h w grid.

Every forward pass has the same shape, `chunk_size(device)` images; the last chunk is filled with
copies of its last image. Kernels choose the order of summation by shape, so an image's output does
not depend on `run.batch_size` or on its neighbors: bit-identical on the CPU (measured: ResNet-18,
ResNet-50, ViT-S/16), and as deterministic as the kernels on a GPU. So cached features
(`feature_cache`) are those that would be computed, to the last bit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.dataset import Dataset
from g2dbench.errors import BadData
from g2dbench.evaluation import feature_cache
from g2dbench.evaluation.feature_cache import CacheEntry, Maps
from g2dbench.evaluation.fingerprint import Fingerprint, fingerprint
from g2dbench.model import Features, Model, ReadsSamples
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Sample
from g2dbench.system.source_digest import source_digest
from g2dbench.task import Run

Encode: TypeAlias = Callable[[Tensor], Maps]
"""(B, C, S, S) -> Maps."""

CACHE_BYTES = 2 << 30
"""Maximum size of one split's pyramids in memory; fitting a head needs two splits."""

_CHUNK = {"cuda": 32}
_SMALL_CHUNK = 8


def chunk_size(device: torch.device) -> int:
    """Images in each forward pass of a frozen encoder; fixed for reproducible results."""
    return _CHUNK.get(device.type, _SMALL_CHUNK)


class FrozenEncoder:
    """An encoder in eval mode, without gradient, with one input shape for every forward pass.

    Moves the model to the run's device. encode: a method of the model, or a function of it such as
    `lambda images: model.features(images)[-3:]`. output: the name of what `encode` computes, with
    everything that it depends on besides the model and the images (texts, levels); features are
    cached under this name. None never caches.
    """

    def __init__(
        self,
        model: Model,
        encode: Encode,
        preprocess: Preprocess,
        run: Run[Any],
        output: str | None = None,
    ) -> None:
        self._model = model.to(run.device).eval()
        self.preprocess = preprocess
        self.output = output
        self._encode = encode
        self._run = run
        self._reader = model if isinstance(model, ReadsSamples) else None
        self.chunk = chunk_size(run.device)

    @cached_property
    def identity(self) -> Fingerprint:
        """The digests that identify the model in the cache."""
        return fingerprint(self._model)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Maps:
        """(H, W) uint8 images of any number and sizes -> maps (B, ...) on the run's device."""
        parts = [
            self._forward(images[start : start + self.chunk])
            for start in range(0, len(images), self.chunk)
        ]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def encode_samples(self, samples: Sequence[Sample]) -> Maps:
        """As for the samples' images, or for the samples themselves where the model reads them."""
        if self._reader is None:
            return self([sample.image for sample in samples])
        starts = range(0, len(samples), self.chunk)
        parts = [
            self._forward_inputs(self._reader.inputs(samples[at : at + self.chunk]))
            for at in starts
        ]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def _forward(self, images: Sequence[NDArray[np.uint8]]) -> Maps:
        return self._forward_inputs(self.preprocess.batch(list(images)))

    def _forward_inputs(self, inputs: Tensor) -> Maps:
        spare = self.chunk - len(inputs)
        full = torch.cat([inputs, inputs[-1:].expand(spare, -1, -1, -1)])
        # Not inference_mode: its tensors cannot be used in a head's backward pass.
        with torch.no_grad(), self._run.autocast():
            maps = self._encode(full.to(self._run.device))
        return [level[: len(inputs)] for level in maps]


class EncodedDataset:
    """A frozen encoder's outputs for a data set, read from the cache or computed.

    Use it as a context: features that were computed are on disk when it ends, also after an error.
    Within the context only one process computes features of an entry of the cache; others wait
    for it and read what it has written.
    """

    def __init__(self, frozen: FrozenEncoder, dataset: Dataset, run: Run[Any]) -> None:
        self._frozen = frozen
        self._dataset = dataset
        self._device = run.device
        self._machine = run.machine
        self._cost = run.encoding
        self._turn: feature_cache.Turn | None = None
        self._ids = dataset.table["id"].astype(str).tolist()
        self._entry: CacheEntry | None = None
        if frozen.output is not None and dataset.table["id"].is_unique:
            self._entry = feature_cache.entry(
                run.machine,
                data=dataset.fingerprint,
                size=dataset.size,
                output=frozen.output,
                preprocess=repr(frozen.preprocess),
                weights=frozen.identity.weights,
                settings=frozen.identity.settings,
                code=frozen.identity.code,
                engine=source_digest((__name__,)),
                chunk=frozen.chunk,
            )

    def __enter__(self) -> "EncodedDataset":
        if self._entry is not None:
            self._turn = feature_cache.Turn(self._entry)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._entry is not None:
                self._entry.flush()
        finally:
            self._end_turn()

    def maps(self, rows: Sequence[int]) -> Maps:
        """The outputs for the images at these indices, (B, ...) on the run's device."""
        ids = [self._ids[row] for row in rows]
        if (found := self._read(ids)) is not None:
            self._cost.cached += len(ids)
            return [level.to(self._device) for level in found]
        began = time.perf_counter()
        maps = self._frozen.encode_samples([self._dataset[row] for row in rows])
        if self._entry is not None:
            image_bytes = sum(level[0].nbytes for level in maps)
            if feature_cache.worth_caching(self._machine, image_bytes):
                self._entry.add(ids, maps)
            else:
                self._end_turn()  # nothing is written that others could wait for
        self._cost.images += len(ids)
        self._cost.seconds += time.perf_counter() - began
        return maps

    def _read(self, ids: Sequence[str]) -> Maps | None:
        """Cached outputs; if there are none, wait until no other process computes them."""
        if self._entry is None:
            return None
        found = self._entry.read(ids)
        if found is None and self._turn is not None and self._turn.wait():
            found = self._entry.read(ids)
        return found

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.end()
            self._turn = None

    def chunks(self, run: Run[Any], title: str) -> Iterator[tuple[range, Maps]]:
        """Yield the row numbers of each chunk and its outputs, on the run's device."""
        starts = range(0, len(self._dataset), self._frozen.chunk)
        for start in run.progress(starts, title, len(starts)):
            rows = range(start, min(start + self._frozen.chunk, len(self._dataset)))
            yield rows, self.maps(rows)


def encode_in_chunks(
    frozen: FrozenEncoder, dataset: Dataset, run: Run[Any], title: str
) -> Iterator[tuple[list[Sample], Maps]]:
    """Yield the samples of each chunk and the encoder's outputs, on the run's device."""
    with EncodedDataset(frozen, dataset, run) as encoded:
        for rows, maps in encoded.chunks(run, title):
            yield [dataset[row] for row in rows], maps


def encode_dataset(frozen: FrozenEncoder, dataset: Dataset, run: Run[Any], title: str) -> Tensor:
    """The encoder's first output for all images, (N, ...) float32 on the CPU, in order.

    BadData if an output is not finite.
    """
    with EncodedDataset(frozen, dataset, run) as encoded:
        parts = [maps[0].float().cpu() for _, maps in encoded.chunks(run, title)]
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


def pooled_features(model: Model, dataset: Dataset, run: Run[Any], title: str) -> Tensor:
    """The model's pooled features with its own preprocessing, (N, D) float32 on the CPU."""
    assert isinstance(model, Features)
    pool = model.pooled
    frozen = FrozenEncoder(model, lambda images: [pool(images)], model.preprocess, run, "pooled")
    return encode_dataset(frozen, dataset, run, title)


def inner_products(rows: Tensor, columns: Tensor) -> NDArray[np.float64]:
    """(N, D) and (K, D) on the CPU -> (N, K) inner products in double precision.

    Without BLAS: it rounds a row depending on its place in the matrix, so that scores would depend
    on the order of images.
    """
    one, other = rows.double().numpy(), columns.double().numpy()
    return np.asarray(np.einsum("nd,kd->nk", one, other, optimize=False))


class PyramidCache:
    """Feature pyramids of a data set, read in batches of indices.

    Cached in memory in the encoder's precision if they fit into `budget` bytes, else read from disk
    or encoded again for every batch, with bit-identical results.
    """

    def __init__(
        self,
        frozen: FrozenEncoder,
        dataset: Dataset,
        run: Run[Any],
        title: str,
        budget: int = CACHE_BYTES,
    ) -> None:
        self._dataset = dataset
        self._run = run
        self._encoded = EncodedDataset(frozen, dataset, run)
        self._cached: Maps | None = None
        with self._encoded:
            if self._cache_size() <= budget:
                self._cached = self._encode_all(title)

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def cached(self) -> bool:
        """Whether the pyramids are in memory."""
        return self._cached is not None

    def batch(self, positions: Sequence[int] | Tensor) -> Maps:
        """Float32 pyramids of the images at these indices, (B, C, h, w) on the run's device."""
        rows = torch.as_tensor(positions, dtype=torch.int64)
        if self._cached is None:
            maps = self._encoded.maps(rows.tolist())
        else:
            maps = [level[rows] for level in self._cached]
        return [level.to(self._run.device).float() for level in maps]

    def _cache_size(self) -> int:
        if len(self) == 0:
            return 0
        one = self._encoded.maps([0])
        return len(self) * sum(level.nbytes for level in one)

    def _encode_all(self, title: str) -> Maps:
        cached: Maps = []
        for rows, maps in self._encoded.chunks(self._run, title):
            if not cached:
                cached = [
                    level.new_empty((len(self), *level.shape[1:]), device="cpu") for level in maps
                ]
            for whole, level in zip(cached, maps, strict=True):
                whole[rows.start : rows.stop] = level.cpu()
        return cached
