"""Groups word pieces into words, for models that align words with image regions.

Shapes: B texts, L tokens, W words of the longest text.
A word is a word piece with the pieces "##x" that follow it; its features are their sum, as in the
released code of GLoRIA and MGCA. [CLS] and [SEP] count as words here; models may exclude them.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast


class WordGrouping(nn.Module):
    """Maps the tokens of a tokenizer to words."""

    continues: Tensor

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        continues = torch.tensor([piece.startswith("##") for piece in pieces])
        self.register_buffer("continues", continues, persistent=False)
        self._sep_id = int(tokenizer.sep_token_id)

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, L) and (B, L) -> (B, W, L) of 0 and 1, fp32: row w marks the tokens of word w.

        Rows without a token are padding. `rows @ features` sums the pieces of each word; unlike
        scatter_add, a matrix product is deterministic on a GPU.
        """
        place = (~self.continues[tokens]).cumsum(1) - 1
        rows = torch.arange(int(place.max()) + 1, device=tokens.device)
        own = (place[:, None] == rows[:, None]) & attention.bool()[:, None]
        return own[:, own.any(2).any(0)].float()

    def is_sep(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """(B, L) and (B, W, L) -> (B, W): which words are [SEP]."""
        return (rows * (tokens == self._sep_id)[:, None]).any(2)
