"""GLoRIA: the similarity of words and regions against plain loops."""

import math

import pytest
import torch
from support.methods.other_methods import GLORIA, LOCAL, unit
from torch.nn import functional as F


def test_glorias_similarity_equals_plain_loops() -> None:
    regions, words = unit(3, 4, 5) * 3, unit(3, 6, 5, seed=1) * 2
    lengths = [6, 1, 4]
    exist = torch.arange(6) < torch.tensor(lengths)[:, None]
    found = GLORIA.word_similarity(regions, words, exist, LOCAL)
    for image in range(3):
        for report, length in enumerate(lengths):
            total = 0.0
            for word in range(length):
                logits = []
                for region in range(4):
                    all_words = [
                        math.exp(float(regions[image, region] @ words[report, other]))
                        for other in range(length)
                    ]
                    logits.append(math.exp(4.0 * all_words[word] / sum(all_words)))
                attended = sum(
                    weight / sum(logits) * regions[image, region]
                    for region, weight in enumerate(logits)
                )
                cosine = F.cosine_similarity(attended, words[report, word], dim=0)
                total += math.exp(5.0 * float(cosine))
            assert float(found[image, report]) == pytest.approx(10 * math.log(total), rel=1e-5)
