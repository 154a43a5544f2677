"""Weights, words and radiographs drawn from seeds: the same for an original and for its wrapper.

A tensor depends on the seed, its key and its shape alone, so the two sides need not exchange files.
Scales keep a deep network's activations near 1: He's for convolutions, 1 / fan-in for matrices,
running variances in [0.5, 1.5], and small last norms of residual blocks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefghijklmnopqrstuvwxyz0123456789.,-_?!",
    *(f"##{sign}" for sign in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *("pneumonia", "effusion", "there", "is", "no", "of", "the", "lung", "left", "right"),
)
"""A toy WordPiece vocabulary, lower case, that spells every word."""


def state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """A drawn state_dict for a module; buffers that are counters keep their values."""
    return {
        key: values if not values.is_floating_point() else tensor(key, tuple(values.shape), seed)
        for key, values in module.state_dict().items()
    }


def tensor(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """One drawn tensor; key and shape decide its scale."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *key.encode()])))
    if key.endswith("running_var"):
        return torch.from_numpy(generator.uniform(0.5, 1.5, shape)).float()
    noise = torch.from_numpy(generator.standard_normal(shape, np.float32))
    if len(shape) == 1:
        centre = 1.0 if key.endswith("weight") else 0.0
        return (0.3 if key.endswith("bn3.weight") else 1.0) * (centre + 0.1 * noise)
    gain = 2.0 if len(shape) == 4 else 1.0
    return noise * (gain / np.prod(shape[1:])) ** 0.5


def radiograph(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """(H, W) uint8: slow waves, two bright discs and noise, within 20..235."""
    generator = np.random.default_rng([seed, height, width])
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    field = np.sin(2 * np.pi * (x * 2.3 + 0.2)) + np.cos(2 * np.pi * y * 1.7)
    for centre_y, centre_x in generator.uniform(0.2, 0.8, (2, 2)):
        field += 2.0 * (np.hypot(y - centre_y, x - centre_x) < 0.12)
    field += 0.3 * generator.standard_normal((height, width))
    low, high = field.min(), field.max()
    return (20 + 215 * (field - low) / (high - low)).astype(np.uint8)


def rounded(values: Tensor | NDArray[Any]) -> list[Any]:
    """Nested lists of numbers with 8 digits, as golden files keep them."""
    flat = np.asarray(values, np.float64)
    return np.vectorize(lambda number: float(f"{number:.8g}"))(flat).tolist()


def write_vocabulary(folder: Path) -> None:
    """The toy vocabulary as BERT's vocab.txt."""
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
