"""Pairs in memory, and a loader of them."""

from dataclasses import replace

import numpy as np
import torch

from g2dbench.cards import DatasetCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.sample import Sample
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, find_pairs

CPU = torch.device("cpu")


WORDS = ("left", "right", "effusion", "nodule", "clear", "lungs", "heart", "normal")


FAKE = DatasetCard(name="fake", summary="", offers=("reports",), findings=(), url="", licence="")


def some(count: int, split: str = "train") -> MemoryDataset:
    rng = np.random.default_rng(0)
    return MemoryDataset(
        [
            Sample(
                id=f"i{number:03d}",
                image=rng.integers(0, 256, (40, 36), dtype=np.uint8),
                patient=f"p{number}",
                view="PA",
                split=split,
                report=" ".join(rng.choice(WORDS, rng.integers(2, 9))) + ".",
            )
            for number in range(count)
        ],
        FAKE,
        size=32,
    )


def a_loader(dataset: MemoryDataset, **changes: object) -> PairLoader:
    pairs = find_pairs(dataset, "frontal")
    tokenizer = train_wordpiece(pairs.reports, 60)
    settings = LoaderSettings(
        preprocess=Preprocess(size=32, mean=(0.5,), std=(0.25,)), tokenize=Tokenize(tokenizer, 16),
        batch_size=4, seed=0, policy="light", device=CPU,
    )  # fmt: skip
    return PairLoader(pairs, replace(settings, **changes))  # type: ignore[arg-type]
