"""Pairs in memory, and a loader of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from g2dbench.cards import DatasetCard
from g2dbench.dataset import COLUMNS
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.tokenizer import Tokenize, train_wordpiece
from g2dbench.sample import Sample
from g2dbench.training.batches.collate import Batching
from g2dbench.training.batches.pair_loader import Loader, find_pairs

CPU = torch.device("cpu")


WORDS = ("left", "right", "effusion", "nodule", "clear", "lungs", "heart", "normal")


class Radiographs:
    """A data set in memory."""

    card = DatasetCard(
        name="fake", summary="", offers=("reports",), findings=(), url="", licence=""
    )
    fingerprint = "f" * 64
    size = 32

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        rows = [{name: getattr(sample, name, False) for name in COLUMNS} for sample in self.samples]
        self.table = pd.DataFrame(rows, columns=list(COLUMNS))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def take(self, indices: Sequence[int]) -> "Radiographs":
        return Radiographs([self.samples[index] for index in indices])

    def split(self, name: str) -> "Radiographs":
        return Radiographs([sample for sample in self.samples if sample.split == name])


def some(count: int, split: str = "train") -> Radiographs:
    rng = np.random.default_rng(0)
    return Radiographs(
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
        ]
    )


def a_loader(dataset: Radiographs, **changes: object) -> Loader:
    pairs = find_pairs(dataset, "frontal")
    tokenizer = train_wordpiece(pairs.reports, 60)
    how = Batching(
        preprocess=Preprocess(size=32, mean=(0.5,), std=(0.25,)), tokenize=Tokenize(tokenizer, 16),
        batch_size=4, seed=0, policy="light", device=CPU,
    )  # fmt: skip
    return Loader(pairs, replace(how, **changes))  # type: ignore[arg-type]
