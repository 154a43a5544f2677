"""Collates pairs into batches, for pairs in memory and for streamed ones.

Shapes: N reports, B pairs of a batch, S image side, L tokens of a batch, C channels.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.method import Batch
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.recipes.recipe import AugmentPolicy
from g2dbench.system.device import to_device

LENGTH_MULTIPLE = 8
"""Token rows are padded to a multiple of this length."""

_CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Settings of a loader.

    batch_size: pairs per process. policy: augmentation of training images. workers: additional
    processes that read images. rank, world_size: this process among all that train.
    """

    preprocess: Preprocess
    tokenize: Tokenize
    batch_size: int
    seed: int
    device: torch.device
    policy: AugmentPolicy = "none"
    workers: int = 0
    rank: int = 0
    world_size: int = 1


class TokenizedReports:
    """Reports as token ids, tokenized once."""

    def __init__(self, reports: Sequence[str], tokenize: Tokenize) -> None:
        """Tokenize into int32 rows, padded to the longest of all reports."""
        starts = range(0, len(reports), _CHUNK)
        parts = [tokenize(reports[at : at + _CHUNK]) for at in starts]
        self._pad_to_maximum = tokenize.padding == "max_length"
        width = max((ids.shape[1] for ids, _ in parts), default=0)
        self._max_length = max(min(_round_up(width), tokenize.max_length), width)
        pad = int(tokenize.tokenizer.pad_token_id)
        self._ids = torch.full((len(reports), self._max_length), pad, dtype=torch.int32)
        self._attention = torch.zeros(len(reports), self._max_length, dtype=torch.bool)
        for at, (ids, attention) in zip(starts, parts, strict=True):
            self._ids[at : at + len(ids), : ids.shape[1]] = ids.int()
            self._attention[at : at + len(ids), : ids.shape[1]] = attention.bool()

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B,) -> tokens and attention (B, L) int64, L a multiple of 8 or `max_length`."""
        attention = self._attention[rows]
        longest = int(attention.any(0).nonzero().max()) + 1
        width = self._max_length
        if not self._pad_to_maximum:
            width = min(_round_up(longest), width)
        return self._ids[rows, :width].long(), attention[:, :width].long()


class Collator:
    """Makes batches on a device, with images normalized as `preprocess` does."""

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        self._device = device
        self._normalized_levels = _normalized_levels(preprocess).to(device)

    def batch(
        self, pixels: Tensor, tokens: Tensor, attention: Tensor, ids: tuple[str, ...], step: int
    ) -> Batch:
        """Pixels (B, S, S) uint8, tokens and attention (B, L) -> a batch."""
        on_device = pixels.to(self._device, non_blocking=True).int()
        return Batch(
            # an embedding of 256 rows normalizes and writes channels last in one pass
            images=F.embedding(on_device, self._normalized_levels).permute(0, 3, 1, 2),
            tokens=to_device(tokens, self._device),
            attention=to_device(attention, self._device),
            ids=ids,
            step=step,
        )


def _normalized_levels(preprocess: Preprocess) -> Tensor:
    """(256, C): each grey value, normalized by `preprocess`."""
    grey = torch.arange(256).float().div_(255).unsqueeze(1).expand(-1, preprocess.channels)
    return (grey - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)


def ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM in a worker: the training process stops its workers itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _round_up(length: int) -> int:
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
