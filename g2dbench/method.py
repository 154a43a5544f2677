"""The interface of a pre-training method: losses of a batch, and the trained model.

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
from g2dbench.pretrained.text.tokenizer import Tokenize


@dataclass(frozen=True)
class Batch:
    """Pairs of image and report.

    images: (B, C, S, S), normalized; tokens and attention: (B, L) int64, padded. ids: sample ids,
    in order. step: optimizer steps taken so far, for methods with a warm-up.
    """

    images: Tensor
    tokens: Tensor
    attention: Tensor
    ids: tuple[str, ...]
    step: int


MonitorValues = Mapping[str, float]
"""Values of one row of log.csv or steps.csv, by name."""


@dataclass(frozen=True)
class WarningRule:
    """A warning about a training that fails.

    monitor: name of the value that the rule reads; rows without it are skipped. applies: whether
    the values of a row call for the warning. warning: the sentence, with names of values in braces,
    and what to try. resolved: the sentence once the rule no longer applies.
    """

    monitor: str
    applies: Callable[[MonitorValues], bool]
    warning: str
    resolved: str


class Method(nn.Module, ABC):
    """Base class of all methods: an `nn.Module` that trains on images and reports.

    Attributes (set by `build`):
        preprocess: from (H, W) uint8 grey to the input for training and evaluation.
        tokenize: list of reports -> `tokens`, `attention` of a `Batch`, on the CPU.
        architecture: a `[model]` table that rebuilds this method without any download, by
            `build(architecture, tokenizer, seed)` and `load_state_dict`.
        warning_rules: warnings about its `monitors`; the training loop adds its own.
    """

    preprocess: Preprocess
    tokenize: Tokenize
    architecture: dict[str, Any]
    warning_rules: tuple[WarningRule, ...] = ()

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses with gradient; the training loop minimizes their sum."""

    def monitors(self, batch: Batch) -> dict[str, float]:
        """Values to monitor on a held-out batch, without gradient; none by default."""
        return {}

    @abstractmethod
    def as_model(self) -> Model:
        """The model to evaluate, which shares this method's weights and mode.

        Its `preprocess` is set; the code that loads a run sets `card` and `identity`.
        """


@runtime_checkable
class Separable(Protocol):
    """A method that supports micro-batches (`optim.micro_batch`, `training/gradient_cache.py`).

    Its losses are those of `whole_batch_losses`: some compare pairs with each other and need only
    their representations, the others are means of a loss per pair.
    """

    why_whole: str
    """Why batches must stay whole, and what to change; empty if micro-batches are possible."""

    def embed(self, batch: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Representations, (B, ...) each, and the scalar means of the losses per pair."""
        ...

    def compare(self, *representations: Tensor) -> dict[str, Tensor]:
        """The scalar losses that compare all pairs, from their representations."""
        ...


def whole_batch_losses(method: Separable, batch: Batch) -> dict[str, Tensor]:
    """All losses of a whole batch of a `Separable` method."""
    representations, pair_losses = method.embed(batch)
    return {**method.compare(*representations), **pair_losses}


class MethodModule(Protocol):
    """The interface of a module in `g2dbench/methods`."""

    CARD: Any

    def build(
        self, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int
    ) -> Method:
        """A method with fresh weights from a recipe's `[model]` table; the seed decides them.

        tokenizer: made by `make_tokenizer(config["text"], reports)` of
        `g2dbench.pretrained.text.tokenizer`, or loaded from the run folder. Raises Misuse for an
        unknown key or an invalid value.
        """
        ...
