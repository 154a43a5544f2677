"""A pre-training method: losses of a batch, and the model that remains.

Shapes: B pairs, C channels, S image side, L tokens of the longest report of the batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.tokenizer import Tokenize


@dataclass(frozen=True)
class Batch:
    """Pairs of image and report.

    images: (B, C, S, S) normalised by the recipe; tokens and attention: (B, L) int64, padded.
    ids: sample ids, in order. step: optimiser steps taken so far, for methods with a warm-up.
    """

    images: Tensor
    tokens: Tensor
    attention: Tensor
    ids: tuple[str, ...]
    step: int


Figures = Mapping[str, float]
"""Figures of one look at a training, by name."""


@dataclass(frozen=True)
class WarningRule:
    """A way in which a training fails, as it shows in a figure.

    figure: the one that it is read from; where that is missing, the rule is not judged. applies:
    whether these figures are a warning. warning: the sentence, with figures' names in braces, and
    what to try. resolved: the sentence once it no longer applies.
    """

    figure: str
    applies: Callable[[Figures], bool]
    warning: str
    resolved: str


class Method(nn.Module, ABC):
    """Base of every method: an `nn.Module` that trains image and report together.

    Attributes (set by `build`):
        preprocess: from (H, W) uint8 grey to the input that it trains on and is evaluated on.
        tokenize: list of reports -> `tokens`, `attention` of a `Batch`, on the CPU.
        architecture: a `[model]` table that rebuilds this method without any download, for
            `build(architecture, tokenizer, seed)` followed by `load_state_dict`.
        warning_rules: what of its `monitors` is a warning; the training loop adds its own.
    """

    preprocess: Preprocess
    tokenize: Tokenize
    architecture: dict[str, Any]
    warning_rules: tuple[WarningRule, ...] = ()

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses with gradient; the training loop minimises their sum."""

    def monitors(self, batch: Batch) -> dict[str, float]:
        """Figures worth watching on a held-out batch, without gradient; none by default."""
        return {}

    @abstractmethod
    def as_model(self) -> Model:
        """The evaluated model, sharing this method's weights (and its train or eval mode).

        Its `preprocess` is set; whoever stores or loads the run sets `card` and `identity`.
        """


@runtime_checkable
class Separable(Protocol):
    """A method whose batches may be cut: `optim.micro_batch`, see `training/gradient_cache.py`.

    Its losses are those of `joint_losses`: some compare pairs with each other and read nothing but
    representations, the others are means over the pairs of a loss that each has alone.
    """

    uncut: str
    """Why batches must stay whole after all, with the way out; empty where they need not."""

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Representations, (B, ...) each, and the scalar losses that pairs have alone."""
        ...

    def compare(self, *joint: Tensor) -> dict[str, Tensor]:
        """The scalar losses over all pairs of these representations."""
        ...


def joint_losses(method: Separable, batch: Batch) -> dict[str, Tensor]:
    """The losses of a whole batch, by the parts of the contract."""
    joint, own = method.embed(batch)
    return {**method.compare(*joint), **own}


class MethodModule(Protocol):
    """What a file in `g2dbench/methods` exports."""

    CARD: Any

    def build(
        self, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int
    ) -> Method:
        """A method with fresh weights from a recipe's `[model]` table; same seed, same bits.

        tokenizer: made by `make_tokenizer(config["text"], reports)` of
        `g2dbench.pretrained.tokenizer`, or loaded from the run's folder. Raises Misuse for an
        unknown key or an impossible value.
        """
        ...
