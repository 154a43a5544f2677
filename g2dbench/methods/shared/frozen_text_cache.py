"""A cache for the output of the frozen part of a text encoder.

Shapes: B reports, L tokens, E the encoder's width.
Each report is encoded alone and without padding, so that its output depends only on its own tokens:
a cached value equals a computed one bit for bit, in any batch, epoch or resumed run.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenTextCache:
    """The cached output of the embeddings and first layers of a BERT, without gradient or dropout.

    It refers to modules of the BERT but does not own them. Reports with equal tokens share an
    entry. When the cache is full, further reports are computed every time.
    """

    def __init__(self, bert: Any, layers: int, max_bytes: int) -> None:
        """bert: its embeddings and first `layers` layers are frozen and in eval mode."""
        self._bert, self._layers, self._max_bytes = bert, layers, max_bytes
        self._cached: dict[tuple[object, bytes], Tensor] = {}
        self._weights: tuple[tuple[int, int], ...] = ()
        self.bytes = 0

    def __call__(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L), padded on the right -> (B, L, E), 0 at the padding."""
        self._clear_if_changed()
        width = tokens.shape[1]
        lengths = attention.sum(1).tolist()
        rows = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        return torch.stack([F.pad(self._look_up(row), (0, 0, 0, width - len(row))) for row in rows])

    def compute(self, row: Tensor) -> Tensor:
        """(L,) tokens of one report -> (L, E)."""
        with torch.no_grad():
            hidden: Tensor = self._bert.embeddings(input_ids=row[None])
            return run_layers(self._bert.encoder.layer[: self._layers], hidden)[0]

    def _look_up(self, row: Tensor) -> Tensor:
        kind = row.device.type
        lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        key = (lower, row.cpu().numpy().tobytes())
        found = self._cached.get(key)
        if found is None:
            found = self.compute(row)
            if self.bytes + found.nbytes <= self._max_bytes:
                self._cached[key] = found
                self.bytes += found.nbytes
        return found

    def _clear_if_changed(self) -> None:
        """Clear the cache if a frozen weight was changed, moved or replaced."""
        modules = [self._bert.embeddings, *self._bert.encoder.layer[: self._layers]]
        weights = tuple((w.data_ptr(), w._version) for m in modules for w in m.parameters())
        if weights != self._weights:
            self._cached.clear()
            self.bytes, self._weights = 0, weights


def run_layers(
    layers: Iterable[nn.Module], hidden: Tensor, allowed: Tensor | None = None
) -> Tensor:
    """(B, L, E) through BERT layers -> (B, L, E).

    allowed: (B, 1, 1, L), True where a token may be attended; None where all may.
    """
    for layer in layers:
        found = layer(hidden, allowed)
        hidden = found[0] if isinstance(found, tuple) else found  # transformers 4 gives a tuple
    return hidden
