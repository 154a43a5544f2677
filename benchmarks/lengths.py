"""Reports of realistic length for timing."""

from pathlib import Path

import numpy as np
import pandas as pd

from g2dbench.data.readers.open_i import join_report
from g2dbench.data.reports.tidy import clean_report
from g2dbench.data.synthetic.synthetic import generate
from g2dbench.pretrained.text.tokenizer import Tokenize


def open_i_reports(folder: Path) -> list[str]:
    """Cleaned reports of Open-i, or those of the synthetic data if the folder does not exist."""
    file = folder / "indiana_reports.csv"
    if not file.is_file():
        print(f"there is no {file}: using reports of the synthetic data", flush=True)
        return [generate(index, 64).report or "" for index in range(400)]
    table = pd.read_csv(file, keep_default_na=False)
    found = map(join_report, table["findings"], table["impression"])
    return [text for text in map(clean_report, found) if text]


def with_median(reports: list[str], tokenize: Tokenize, median: int, count: int) -> list[str]:
    """`count` reports with this median number of tokens.

    Reports are unchanged if their median is right; otherwise their words are cut into texts with a
    log-normal number of words.
    """
    rng = np.random.default_rng(median)
    chosen = [reports[row] for row in rng.permutation(len(reports))[:count]]
    tokens = tokenize(chosen)[1].sum(1)
    if abs(float(tokens.median()) / median - 1) < 0.1:
        return chosen
    words = " ".join(reports).split()
    per_word = float(tokenize(reports)[1].sum()) / len(words)
    lengths = rng.lognormal(np.log(median / per_word), 0.4, count).astype(int).clip(8, 220)
    starts = rng.integers(0, len(words) - 256, count)
    return [" ".join(words[at : at + n]) for at, n in zip(starts, lengths, strict=True)]
