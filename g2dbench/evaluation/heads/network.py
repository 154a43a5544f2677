"""A head on an encoder: what is fitted, its outputs on a data set, and its weights as a file.

A frozen encoder's pyramids are computed once and cached. Where they change from step to step
(augmented images, an updated encoder, batch norm in train mode), a copy of the encoder runs in the
training loop.

Legend: B images, C channels, S input side.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from g2dbench.dataset import Dataset
from g2dbench.errors import BadCheckpoint
from g2dbench.evaluation.frozen_features import FrozenEncoder, PyramidCache
from g2dbench.evaluation.heads.image_warps import Augmentation, Homography, draw_warp
from g2dbench.evaluation.heads.saved_head import SavedHead
from g2dbench.model import Features, Model
from g2dbench.preprocess import Preprocess
from g2dbench.task import Run
from g2dbench.training.batches.augmentation import warp

EncoderUse: TypeAlias = Literal["frozen", "batch-statistics", "updated"]
"""frozen: eval mode, no gradient. batch-statistics: no gradient, but batch norm normalizes by the
batch and its running statistics follow the training images, as in MGCA, whose encoder stays in
train mode. updated: all weights of the encoder are fitted."""

AUGMENT, DROPOUT = 4, 5
"""Random streams of `Run.generator`: geometry of training images, and dropout."""

_HEAD, _ENCODER = "head.", "encoder."


class Outputs(NamedTuple):
    """Raw outputs of the head for a batch, and the geometry applied to each of its images."""

    raw: Any
    warps: Sequence[Homography | None]


class SplitOutputs(Protocol):
    """The outputs on one split."""

    def __len__(self) -> int: ...

    def __call__(self, rows: Tensor) -> Outputs:
        """The outputs for the images at these indices (b,)."""
        ...


@dataclass(frozen=True)
class Levels:
    """The levels of a model's pyramid that a head reads; None for all."""

    indices: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """The name of these features in the cache."""
        return "features" if self.indices is None else f"features {list(self.indices)}"

    def of(self, model: Model, images: Tensor) -> list[Tensor]:
        """(B, C, S, S) -> the maps of these levels."""
        assert isinstance(model, Features)
        pyramid = model.features(images)
        return pyramid if self.indices is None else [pyramid[level] for level in self.indices]


ALL_LEVELS = Levels()


def frozen_encoder(
    model: Model, run: Run[Any], levels: Levels = ALL_LEVELS, cached: bool = True
) -> FrozenEncoder:
    """The encoder on the stretched image; cached: whether its features may go into the cache."""
    preprocess, output = model.preprocess.stretched(), levels.name if cached else None
    return FrozenEncoder(model, lambda images: levels.of(model, images), preprocess, run, output)


class Network:
    """A head with the encoder that it is fitted on.

    module: what is fitted and restored at its best epoch: the head, or encoder and head.
    """

    def __init__(
        self,
        model: Model,
        head: nn.Module,
        run: Run[Any],
        use: EncoderUse = "frozen",
        augment: Augmentation = "none",
        levels: Levels = ALL_LEVELS,
    ) -> None:
        self._model, self._run, self._augment, self._levels = model, run, augment, levels
        self.head = head.to(run.device)
        self.in_loop = use != "frozen" or augment != "none"
        self.module: nn.Module = self.head
        if self.in_loop:
            self.module = _EncoderWithHead(model, self.head, run, use, levels).to(run.device)
        self._frozen = None if self.in_loop else frozen_encoder(model, run, levels)

    def training(self, data: Dataset, title: str) -> SplitOutputs:
        """The outputs on training images, augmented as the protocol says."""
        return self._split(data, title, self._augment)

    def validation(self, data: Dataset, title: str) -> SplitOutputs:
        """The outputs on images as they are."""
        return self._split(data, title, "none")

    def saved(self, facts: Mapping[str, Any]) -> SavedHead:
        """The fitted weights: the head's, and the encoder's where they differ from the model's."""
        weights = {_HEAD + name: value for name, value in self.head.state_dict().items()}
        if isinstance(self.module, _EncoderWithHead):
            before = self._model.state_dict()
            for name, value in self.module.encoder.state_dict().items():
                if not torch.equal(value, before[name].to(value.device)):
                    weights[_ENCODER + name] = value
        return SavedHead(weights, dict(facts))

    def _split(self, data: Dataset, title: str, augment: Augmentation) -> SplitOutputs:
        if self._frozen is not None:
            return _CachedOutputs(self.head, PyramidCache(self._frozen, data, self._run, title))
        assert isinstance(self.module, _EncoderWithHead)
        preprocess = self._model.preprocess.stretched()
        return _LoopOutputs(self.module, data, preprocess, augment, self._run)


@contextmanager
def seeded_dropout(run: Run[Any]) -> Iterator[None]:
    """Within the block, torch's own random numbers, such as dropout's, depend on the run's seed."""
    devices = [run.device] if run.device.type == "cuda" else []
    seed = int(torch.randint(2**62, (), generator=run.generator(DROPOUT)))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def restore(saved: SavedHead, head: nn.Module, model: Model) -> Model:
    """Load the weights into the head; returns the model, or a copy with the fitted encoder.

    BadCheckpoint if the weights do not fit the head or the model.
    """
    parts: dict[str, dict[str, Tensor]] = {_HEAD: {}, _ENCODER: {}}
    for name, value in saved.weights.items():
        prefix = next((p for p in parts if name.startswith(p)), None)
        if prefix is None:
            raise BadCheckpoint(f"the fitted head holds {name!r}, which is of no head or encoder")
        parts[prefix][name.removeprefix(prefix)] = value
    try:
        head.load_state_dict(parts[_HEAD])
        head.requires_grad_(False).eval()
        if not parts[_ENCODER]:
            return model
        fitted = copy.deepcopy(model)
        fitted.load_state_dict({**fitted.state_dict(), **parts[_ENCODER]})
    except RuntimeError as error:
        raise BadCheckpoint(
            f"the fitted head does not fit {model.identity.label}: use the model that it was "
            f"fitted on. {error}"
        ) from error
    return fitted


class _EncoderWithHead(nn.Module):
    """(B, C, S, S) -> the head's outputs, with a copy of the model as its encoder."""

    def __init__(
        self, model: Model, head: nn.Module, run: Run[Any], use: EncoderUse, levels: Levels
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model).requires_grad_(use == "updated")
        self.head = head
        self._run, self._use, self._levels = run, use, levels

    def train(self, mode: bool = True) -> "_EncoderWithHead":
        """Train or eval mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self._use == "frozen":
            self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Any:
        with self._run.autocast():
            pyramid = self._levels.of(self.encoder, images)
        return self.head([level.float() for level in pyramid])


class _CachedOutputs:
    def __init__(self, head: nn.Module, pyramids: PyramidCache) -> None:
        self._head, self._pyramids = head, pyramids

    def __len__(self) -> int:
        return len(self._pyramids)

    def __call__(self, rows: Tensor) -> Outputs:
        return Outputs(self._head(self._pyramids.batch(rows)), [None] * len(rows))


class _LoopOutputs:
    def __init__(
        self,
        module: _EncoderWithHead,
        data: Dataset,
        preprocess: Preprocess,
        augment: Augmentation,
        run: Run[Any],
    ) -> None:
        self._module, self._data, self._augment = module, data, augment
        self._resize = preprocess
        # The image is resized and its gray levels are done before it is warped.
        self._normalize = replace(preprocess, intensity="as_is")
        self._device, self._generator = run.device, run.generator(AUGMENT)

    def __len__(self) -> int:
        return len(self._data)

    def __call__(self, rows: Tensor) -> Outputs:
        warps = [draw_warp(self._augment, self._generator) for _ in rows]
        images = [
            self._input(int(row), moved) for row, moved in zip(rows.tolist(), warps, strict=True)
        ]
        return Outputs(self._module(torch.stack(images).to(self._device)), warps)

    def _input(self, row: int, moved: Homography | None) -> Tensor:
        image = self._resize.resized(self._data[row].image)
        if moved is not None:
            image = warp(np.ascontiguousarray(image), moved)
        return self._normalize(image)
