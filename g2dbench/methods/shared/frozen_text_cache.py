"""A cache for the output of the frozen part of a text encoder.

Shapes: B reports, L tokens, E the encoder's width.
On the CPU each report is encoded alone and without padding, so that its output depends only on its
own tokens: a cached value equals a computed one bit for bit, in any batch, epoch or resumed run.
On a GPU the new reports of a batch are encoded together, which is many times faster and changes
the output by rounding; trainings on a GPU are not bit-identical anyway.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from g2dbench.system.device import to_device

Key = tuple[object, bytes]


class HostReports(NamedTuple):
    """A batch's tokens (B, L) and lengths (B,) on the CPU, where Python reads them."""

    tokens: Tensor
    lengths: Tensor

    @classmethod
    def read(cls, tokens: Tensor, attention: Tensor) -> "HostReports":
        """From (B, L) and (B, L), padded on the right; waits once for the device."""
        both = torch.cat([attention.sum(1, keepdim=True).to(tokens.dtype), tokens], 1).cpu()
        return cls(both[:, 1:], both[:, 0])

    def take(self, rows: Tensor, width: int) -> "HostReports":
        """Some reports, cut to `width` tokens."""
        return HostReports(self.tokens[rows, :width], self.lengths[rows])


class FrozenTextCache:
    """The cached output of the embeddings and first layers of a BERT, without gradient or dropout.

    It refers to modules of the BERT but does not own them. Reports with equal tokens share an
    entry. When the cache is full, further reports are computed in every batch.
    """

    def __init__(self, bert: Any, layers: int, max_bytes: int) -> None:
        """bert: its embeddings and first `layers` layers are frozen and in eval mode."""
        self._bert, self._layers, self._max_bytes = bert, layers, max_bytes
        self._cached: dict[Key, Tensor] = {}
        self._weights: tuple[tuple[int, int], ...] = ()
        self.bytes = 0

    def __call__(self, reports: HostReports, device: torch.device) -> Tensor:
        """Reports and the BERT's device -> (B, L, E), 0 at the padding."""
        self._clear_if_changed()
        width, lengths = reports.tokens.shape[1], reports.lengths.tolist()
        rows = [row[:length] for row, length in zip(reports.tokens, lengths, strict=True)]
        found = self._look_up(rows, device)
        flat = torch.cat([*found, found[0].new_zeros(1, found[0].shape[1])])
        at = torch.arange(width)
        starts = reports.lengths.cumsum(0) - reports.lengths
        own = at < reports.lengths[:, None]
        places = torch.where(own, starts[:, None] + at, len(flat) - 1)
        return flat[to_device(places, device)]

    def compute(self, row: Tensor) -> Tensor:
        """(L,) tokens of one report -> (L, E)."""
        with torch.no_grad():
            hidden: Tensor = self._bert.embeddings(input_ids=row[None])
            return run_layers(self._bert.encoder.layer[: self._layers], hidden)[0]

    def compute_together(self, rows: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """(L_i,) tokens of several reports, on the CPU -> (L_i, E) each, in one padded pass."""
        lengths = torch.tensor([len(row) for row in rows])
        tokens = pad_sequence(list(rows), batch_first=True)
        allowed = to_device(
            (torch.arange(tokens.shape[1]) < lengths[:, None])[:, None, None], device
        )
        with torch.no_grad():
            hidden: Tensor = self._bert.embeddings(input_ids=to_device(tokens, device))
            hidden = run_layers(self._bert.encoder.layer[: self._layers], hidden, allowed)
        # Clones, since a view would keep the padded whole in memory.
        return [h[: len(row)].clone() for h, row in zip(hidden, rows, strict=True)]

    def _look_up(self, rows: list[Tensor], device: torch.device) -> list[Tensor]:
        kind = device.type
        lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        keys: list[Key] = [(lower, row.numpy().tobytes()) for row in rows]
        new = {k: row for k, row in zip(keys, rows, strict=True) if k not in self._cached}
        computed = dict(zip(new, self._compute(list(new.values()), device), strict=True))
        for key, found in computed.items():
            if self.bytes + found.nbytes <= self._max_bytes:
                self._cached[key] = found
                self.bytes += found.nbytes
        return [computed[key] if key in computed else self._cached[key] for key in keys]

    def _compute(self, rows: list[Tensor], device: torch.device) -> list[Tensor]:
        if rows and device.type == "cuda":
            return self.compute_together(rows, device)
        return [self.compute(row.to(device)) for row in rows]

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
