"""The tokenizer of the small networks of all methods."""

import pytest
from support.methods.networks import REPORTS
from transformers import PreTrainedTokenizerFast

from g2dbench.pretrained.text.tokenizer import train_wordpiece


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(REPORTS, 60)
