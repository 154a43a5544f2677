"""Weights, a vocabulary and radiographs from seeds, the same on every processor.

Values are integers divided by a power of two, so that no processor rounds them differently. A
tensor depends on its key and its shape alone.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefghijklmnopqrstuvwxyz0123456789.,-_?!",
    *(f"##{sign}" for sign in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *("pneumonia", "effusion", "there", "is", "no", "of", "the", "lung", "left", "right"),
)
"""A WordPiece vocabulary, lower case, that spells every word."""

TEXTS = (
    "There is pneumonia.",
    "No effusion of the left lung. Heart is large.",
    "Right basilar atelectasis",
)


def tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor; key and shape decide its seed and its scale.

    Scales keep the activations of a deep network near 1: He's for convolutions, 1 / fan-in for
    matrices, running variances in [0.5, 1.5], small last norms of residual blocks.
    """
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    uniform = torch.from_numpy(generator.integers(-(2**14), 2**14, shape)).float() / 2**14
    if key.endswith("running_var"):
        return 1 + uniform / 2
    if len(shape) < 2 or key.endswith("cls_token"):
        center = 1.0 if key.endswith(("weight", "gamma")) else 0.0
        return (0.25 if "bn3" in key else 1.0) * (center + 0.125 * uniform)
    gain = 6.0 if len(shape) == 4 else 3.0
    scale = (gain / float(np.prod(shape[1:]))) ** 0.5
    # The next power of two, because multiplying by it is exact.
    return uniform * float(2.0 ** round(np.log2(scale)))


def fill(layout: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict with seeded values in place of those of `layout`; integers are kept."""
    return {
        key: tensor(key, tuple(value.shape)) if value.is_floating_point() else value.clone()
        for key, value in layout.items()
    }


def placed(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """The state_dict of a module under a prefix."""
    return {f"{prefix}{key}": value for key, value in module.state_dict().items()}


def bert(width: int = 128, layers: int = 2, pooler: bool = True, positions: int = 128) -> BertModel:
    """A small BERT with heads of 64, the width of every published one."""
    return BertModel(bert_config(width, layers, positions), add_pooling_layer=pooler)


def bert_config(width: int = 128, layers: int = 2, positions: int = 128) -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=48,
        max_position_embeddings=positions,
    )


def write_vocabulary(folder: Path) -> Path:
    """vocab.txt of WORDS in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def write_bert_repository(folder: Path, model: BertModel) -> Path:
    """A folder that transformers' Auto classes load: configuration, weights, vocabulary."""
    model.save_pretrained(write_vocabulary(folder))
    return folder


def radiograph(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """(H, W) uint8: bright and dark blocks with noise, from integers alone."""
    generator = np.random.default_rng([seed, height, width])
    blocks = generator.integers(0, 200, (8, 8))
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    noise = generator.integers(0, 56, (height, width))
    return (blocks[np.ix_(rows, columns)] + noise).astype(np.uint8)


def radiographs() -> list[NDArray[np.uint8]]:
    """Three images of different shapes, the last smaller than most inputs."""
    return [radiograph(420, 351, 1), radiograph(300, 512, 2), radiograph(90, 120, 3)]
