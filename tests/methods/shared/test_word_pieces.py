"""Words from tokens: grouping, BERT's attention, and clipped weights."""

import pytest
import torch
from support.methods.networks import REPORTS
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from g2dbench.methods.shared.word_pieces import clipped_weights, cls_attention
from g2dbench.pretrained.text.word_grouping import WordGrouping


def test_words_are_sums_of_their_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    words = WordGrouping(tokenizer)
    pieces = ["[CLS]", "h", "##e", "##a", "no", "[SEP]", "[PAD]"]
    tokens = torch.tensor([tokenizer.convert_tokens_to_ids(pieces)])
    attention = torch.tensor([[1, 1, 1, 1, 1, 1, 0]])
    rows = words(tokens, attention)
    assert rows[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
    ]
    assert words.is_sep(tokens, rows)[0].tolist() == [False, False, False, True]


def test_cls_attention_is_berts(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, attn_implementation="eager",
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False).eval()
    coded = tokenizer(REPORTS, padding=True, return_tensors="pt")
    out = bert(
        coded["input_ids"], coded["attention_mask"],
        output_hidden_states=True, output_attentions=True,
    )  # fmt: skip
    found = cls_attention(bert, out.hidden_states[-2], coded["attention_mask"])
    torch.testing.assert_close(found, out.attentions[-1][:, :, 0].mean(1))


def test_clipped_weights_by_hand() -> None:
    weights = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    low, high = 1.2, 2.8  # deciles of 1, 2, 3
    wanted = torch.tensor([[0, low, 2, high], [0, 0, 0, 6.0], [0, 0, 0, 0]]) / 6
    torch.testing.assert_close(clipped_weights(weights), wanted)


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_clipped_in_fp32(lower: torch.dtype) -> None:
    weights = torch.tensor([[0.125, 0.25, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = clipped_weights(weights.to(lower))
    assert found.dtype == torch.float32
    assert torch.equal(found, clipped_weights(weights))
