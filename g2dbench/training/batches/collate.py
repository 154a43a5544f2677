"""How pairs become batches, whether they lie in memory or are streamed.

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
from g2dbench.pretrained.tokenizer import Tokenize
from g2dbench.recipes.recipe import Policy

LENGTHS = 8
"""Token rows are padded to a multiple of this."""

_CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class Batching:
    """What a loader is told.

    batch_size: pairs of this process. policy: how images are varied in training. workers: further
    processes that read images. rank of world: this process's share of each epoch.
    """

    preprocess: Preprocess
    tokenize: Tokenize
    batch_size: int
    seed: int
    device: torch.device
    policy: Policy = "none"
    workers: int = 0
    rank: int = 0
    world: int = 1


class Tokens:
    """Reports as token ids, tokenised once."""

    def __init__(self, reports: Sequence[str], tokenize: Tokenize) -> None:
        """Tokenise; int32 rows, padded to the longest report of all."""
        starts = range(0, len(reports), _CHUNK)
        parts = [tokenize(reports[at : at + _CHUNK]) for at in starts]
        self._whole = tokenize.padding == "max_length"
        width = max((ids.shape[1] for ids, _ in parts), default=0)
        self._most = max(min(_up(width), tokenize.max_length), width)
        pad = int(tokenize.tokenizer.pad_token_id)
        self._ids = torch.full((len(reports), self._most), pad, dtype=torch.int32)
        self._seen = torch.zeros(len(reports), self._most, dtype=torch.bool)
        for at, (ids, seen) in zip(starts, parts, strict=True):
            self._ids[at : at + len(ids), : ids.shape[1]] = ids.int()
            self._seen[at : at + len(ids), : ids.shape[1]] = seen.bool()

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B,) -> tokens and attention (B, L) int64, L a multiple of 8 or `max_length`."""
        seen = self._seen[rows]
        longest = int(seen.any(0).nonzero().max()) + 1
        width = self._most if self._whole else min(_up(longest), self._most)
        return self._ids[rows, :width].long(), seen[:, :width].long()


class Press:
    """Makes batches for a device: images normalised as `preprocess` does."""

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        self._device = device
        self._normalised = _normalised(preprocess).to(device)

    def batch(
        self, pixels: Tensor, tokens: Tensor, attention: Tensor, ids: tuple[str, ...], step: int
    ) -> Batch:
        """Pixels (B, S, S) uint8, tokens and attention (B, L) -> a batch."""
        on_device = pixels.to(self._device, non_blocking=True).int()
        return Batch(
            # a table of 256 rows, read once per pixel, writes channels last in one pass
            images=F.embedding(on_device, self._normalised).permute(0, 3, 1, 2),
            tokens=tokens.to(self._device),
            attention=attention.to(self._device),
            ids=ids,
            step=step,
        )


def _normalised(preprocess: Preprocess) -> Tensor:
    """(256, C): each grey value as `preprocess` normalises it."""
    grey = torch.arange(256).float().div_(255).unsqueeze(1).expand(-1, preprocess.channels)
    return (grey - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)


def deaf(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the process that trains, which ends its workers when it stops."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _up(length: int) -> int:
    return -(-length // LENGTHS) * LENGTHS
