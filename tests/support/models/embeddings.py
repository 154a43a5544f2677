"""A file of stored embeddings of the embedded images, their reports and prompts."""

from pathlib import Path

import numpy as np

from g2dbench.data.reports.cleaning import DEFAULT, clean
from g2dbench.data.synthetic.synthetic import CARD, generate
from g2dbench.evaluation.prompts import load_prompts

COUNT, WIDTH = 120, 16


def write(folder: Path) -> Path:
    """Random vectors for `synthetic:120`: what two tasks look up by id and by text."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [generate(index, 64) for index in range(COUNT)]
    findings = load_prompts("g2d").promptable(CARD.findings)
    prompts = [text for name in findings for text in (name, f"no {name}")]
    reports = [text for sample in samples if (text := clean(sample.report, DEFAULT).text)]
    texts = list(dict.fromkeys([*prompts, *reports]))
    random = np.random.default_rng(0)
    np.savez(
        folder / "embeddings.npz",
        ids=[sample.id for sample in samples],
        images=random.standard_normal((COUNT, WIDTH)),
        texts=texts,
        text_embeddings=random.standard_normal((len(texts), WIDTH)),
    )
    return folder / "embeddings.npz"
