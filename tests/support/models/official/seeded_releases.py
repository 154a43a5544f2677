"""Models whose small files tests/support/originals writes, written with their published sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from transformers import BertConfig, Dinov2Config, MPNetConfig

from support.models.growth import BERT_BASE
from support.originals import gloria, seeded
from support.originals.image_text import afloc as small_afloc
from support.originals.image_text import alta as small_alta
from support.originals.image_text import carzero as small_carzero
from support.originals.image_text import mavl as small_mavl
from support.originals.image_text import med_unic as small_med_unic
from support.originals.image_text import prior as small_prior
from support.originals.image_text import radzero as small_radzero

CXR_BERT_WORDS, MPNET_WORDS = 30522, 30527


@contextmanager
def published(module: ModuleType, words: int = BERT_BASE["vocab_size"], **sizes: Any) -> Iterator:
    """Its constants have these sizes, and every BERT is a BERT-base of that many word pieces."""
    config = BertConfig(**BERT_BASE | {"vocab_size": words})
    unused = (f"[unused{number}]" for number in range(words - len(seeded.WORDS)))
    with (
        mock.patch.multiple(module, **sizes),
        mock.patch.object(seeded, "WORDS", (*seeded.WORDS, *unused)),
        mock.patch.object(seeded, "bert_config", return_value=config),
    ):
        yield


def afloc(folder: Path) -> Path:
    with published(gloria, WIDTH=768, LAYERS=12):
        return small_afloc.write(folder)


def alta(folder: Path) -> Path:
    with published(small_alta, CXR_BERT_WORDS, WIDTH=768, DEPTH=12, LAYERS=12):
        return small_alta.write(folder)


def carzero(folder: Path) -> Path:
    with published(small_carzero, WIDTH=768, DEPTH=12, LAYERS=12):
        return small_carzero.write(folder)


def mavl(folder: Path) -> Path:
    with published(small_mavl, LAYERS=12):
        return small_mavl.write(folder)


def med_unic(folder: Path) -> Path:
    """Without the Spanish words: the authors do not say how many they added."""
    with published(small_med_unic, CXR_BERT_WORDS, LAYERS=12):
        return small_med_unic.write(folder)


def prior(folder: Path) -> Path:
    with published(small_prior, BERT_WIDTH=768, LAYERS=12, WIDTH=768):
        return small_prior.write(folder)


def radzero(folder: Path) -> Path:
    vision = Dinov2Config(image_size=518, patch_size=14)
    text = MPNetConfig(vocab_size=MPNET_WORDS, max_position_embeddings=514)
    with mock.patch.multiple(small_radzero, WIDTH=768, SIDE=518, VISION=vision, TEXT=text):
        return small_radzero.write(folder)
