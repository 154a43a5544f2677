"""The text encoder of GLoRIA and of the models built on its code: CARZero, AFLoc.

Shapes: T texts, L tokens, W words of the longest text, D width.
Source: marshuang80/gloria at 416466a, models/text_model.py and models/gloria_model.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizerFast

from g2dbench.pretrained.text.report_words import clean_report
from g2dbench.pretrained.text.tokenizer import Tokenize
from g2dbench.pretrained.text.word_grouping import WordGrouping

MAX_TOKENS, LAST_LAYERS = 97, 4
UNUSED_KEYS = (r"(^|\.)text_encoder\.model\.pooler\.",)
"""Keys of the BERT's pooler, which no word needs."""


class WordEncoder(nn.Module):
    """A BERT under the key `model`; its words are sums of pieces over the last four layers."""

    def __init__(self, bert: BertConfig, tokenizer: BertTokenizerFast) -> None:
        super().__init__()
        self.model: Any = BertModel(bert, add_pooling_layer=False)
        self.tokenize = Tokenize(tokenizer, MAX_TOKENS)
        self.group = WordGrouping(tokenizer)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, W, D): words with [CLS] and [SEP], 0 where a text has ended."""
        cleaned = list(map(clean_report, texts))
        tokens, mask = (part.to(self.model.device) for part in self.tokenize(cleaned))
        states = self.model(
            input_ids=tokens, attention_mask=mask, output_hidden_states=True
        ).hidden_states
        summed = torch.stack(states[-LAST_LAYERS:]).sum(dim=0)
        words: Tensor = self.group(tokens, mask) @ summed
        return words

    def padded(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, 97, D): `forward`, with rows of 0 up to the longest possible text."""
        words = self(texts)
        return F.pad(words, (0, 0, 0, MAX_TOKENS - words.shape[1]))
