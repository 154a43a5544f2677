"""Precomputed embeddings in a file: a model that needs no weights, only its outputs by image id.

For closed models, models of other libraries (CXR Foundation), and remote code. N images, T texts,
B batch, D width. SOURCE is one file:

    FILE.npz      arrays `ids` (N,) and `images` (N, D); optional `texts` (T,) and
                  `text_embeddings` (T, D)
    FILE.parquet  columns `id` and `embedding` (a list of D numbers); rows with a value in an
                  optional column `text` (and none in `id`) are texts

Ids are those of the prepared data set. Texts are compared as they are written, prompts included:
the protocol `g2d` of zero-shot classification needs "Edema" and "no Edema" for each finding.
There are no feature maps, so dense tasks answer that the model is unsupported.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import ModelCard
from g2dbench.errors import BadCheckpoint, BadData, Misuse, Unsupported
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.weights import digest
from g2dbench.sample import Sample
from g2dbench.system.parquet_files import read_frame

CARD = ModelCard(
    name="embeddings",
    summary="Precomputed image (and text) embeddings by id, from a .npz or .parquet file",
    paper="none: that of the model that computed the embeddings",
    source="a file that you write with any library",
    licence="that of the model that computed the embeddings",
    capabilities=("embeds", "features"),
    source_kind="file",
    text_needs="an embedding of every prompt in the same file",
    notes=(
        "Without text embeddings the model offers image features alone.",
        "Linear classification, zero-shot classification and retrieval work; dense tasks do not, "
        "nor does what changes images or the encoder: fine-tuning, augmentation, robustness.",
        "The images on which the model was trained are not known.",
    ),
)

Values = NDArray[np.float32]
Names = NDArray[np.str_]
_MAX_SHOWN = 3


class StoredImages(Model):
    """Image embeddings by id; its input is the row of each image in the file, not its pixels."""

    card = replace(CARD, capabilities=("features",))
    preprocess = Preprocess(size=1, channels=1)
    fixed_size = True
    strides = (1,)

    def __init__(self, file: Path, ids: Names, images: Values) -> None:
        super().__init__()
        self.file = file
        order = np.argsort(ids)
        self.ids = ids[order]
        self.register_buffer("images", torch.from_numpy(images[order]))
        self.channels = (images.shape[1],)

    def inputs(self, samples: Sequence[Sample]) -> Tensor:
        """B samples -> (B, 1, 1, 1) int64 rows; BadData lists ids without an embedding."""
        wanted = np.array([str(sample.id) for sample in samples])
        rows = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
        absent = wanted[self.ids[rows] != wanted]
        if len(absent):
            raise BadData(
                f"{self.file} has no embedding of {len(absent)} of {len(wanted)} images "
                f"({_few(absent)}): it has those of {len(self.ids)} images, such as "
                f"{_few(self.ids[:1])}. Ids must be those of the prepared data set"
            )
        return torch.from_numpy(rows).view(-1, 1, 1, 1)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 1, 1, 1) rows -> (B, D) embeddings as in the file."""
        return self.get_buffer("images")[images.flatten()]

    def features(self, images: Tensor) -> list[Tensor]:
        """Unsupported: an embedding has no feature map."""
        raise Unsupported(
            f"{self.file} contains one vector for each image, and this task needs feature maps"
        )


class StoredPairs(StoredImages):
    """Image and text embeddings of one space."""

    card = CARD

    def __init__(self, file: Path, ids: Names, images: Values, texts: Names, rows: Values) -> None:
        super().__init__(file, ids, images)
        order = np.argsort(texts)
        self.texts = texts[order]
        self.register_buffer("text_embeddings", torch.from_numpy(rows[order]))

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 1, 1, 1) rows -> (B, D), each row of length 1."""
        return F.normalize(self.pooled(images), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1; BadData for a text that is not in the file."""
        wanted = np.array(list(texts), dtype=np.str_)
        rows = np.searchsorted(self.texts, wanted).clip(max=len(self.texts) - 1)
        absent = wanted[self.texts[rows] != wanted]
        if len(absent):
            raise BadData(
                f"{self.file} has no embedding of the text {_few(absent)}; it has "
                f"{len(self.texts)} texts, such as {_few(self.texts[:1])}. Add one row for every "
                "text of the task: its templates with the name of each finding, or the cleaned "
                "reports"
            )
        stored = self.get_buffer("text_embeddings")
        return F.normalize(stored[torch.from_numpy(rows).to(stored.device)], dim=-1)


def load(source: str | None, seed: int) -> Model:
    """The embeddings of a file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that is unreadable or inconsistent.
    """
    if source is None:
        raise Misuse("embeddings needs its file: --model embeddings:FILE.npz or FILE.parquet")
    file = Path(source).expanduser()
    readers = {".npz": _read_npz, ".parquet": _read_parquet}
    if file.suffix not in readers:
        raise BadCheckpoint(f"{file} is not a file of embeddings: give a .npz or .parquet file")
    try:
        ids, images, texts, rows = readers[file.suffix](file)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        pa.ArrowException,
    ) as error:
        raise BadCheckpoint(
            f"{file} is not a readable file of embeddings ({_reason(error)}); its layout is "
            "described in docs/embeddings.md"
        ) from error
    _check(file, "id", ids, images)
    model: Model = StoredImages(file, ids, images)
    if len(texts):
        _check(file, "text", texts, rows)
        if rows.shape[1] != images.shape[1]:
            raise BadCheckpoint(
                f"{file} has image embeddings of {images.shape[1]} numbers and text embeddings of "
                f"{rows.shape[1]}: they must come from one space"
            )
        model = StoredPairs(file, ids, images, texts, rows)
    model.identity = Identity(f"embeddings:{file.name}", digest(model))
    return model.eval()


_Tables = tuple[Names, Values, Names, Values]
"""Ids, their embeddings, texts, their embeddings."""


def _read_npz(file: Path) -> _Tables:
    with np.load(file, allow_pickle=False) as arrays:
        width = arrays["images"].shape[-1]
        has_texts = "texts" in arrays
        texts = arrays["texts"] if has_texts else np.empty(0, np.str_)
        rows = arrays["text_embeddings"] if has_texts else np.empty((0, width))
        return _names(arrays["ids"]), _values(arrays["images"]), _names(texts), _values(rows)


def _read_parquet(file: Path) -> _Tables:
    frame = read_frame(file)
    is_text = frame["text"].notna() if "text" in frame else frame["id"].isna() & False
    if bool((is_text == frame["id"].notna()).any()):
        raise ValueError("each row has either an `id` or a `text`")
    images, texts = frame[~is_text], frame[is_text]
    return (
        _names(images["id"].astype(str).to_numpy(dtype=np.str_)),
        _stack(images["embedding"]),
        _names(texts["text"].astype(str).to_numpy(dtype=np.str_))
        if len(texts)
        else np.empty(0, np.str_),
        _stack(texts["embedding"]),
    )


def _stack(column: Any) -> Values:
    return _values(np.stack(list(column)) if len(column) else np.empty((0, 0)))


def _names(values: Any) -> Names:
    if values.ndim != 1 or values.dtype.kind not in "US":
        return values.astype(np.str_).reshape(-1)  # type: ignore[no-any-return]
    return values.astype(np.str_)  # type: ignore[no-any-return]


def _values(values: Any) -> Values:
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ValueError(f"embeddings are {values.dtype} of shape {values.shape}, expected (N, D)")
    return np.ascontiguousarray(values, dtype=np.float32)


def _check(file: Path, what: str, names: Names, values: Values) -> None:
    """BadCheckpoint for names without embeddings, twice the same name, and unusable numbers."""
    if len(names) != len(values) or not len(names):
        raise BadCheckpoint(f"{file} has {len(names)} {what}s and {len(values)} embeddings of them")
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) < len(names):
        raise BadCheckpoint(
            f"{file} has several embeddings of one {what}: {_few(unique[counts > 1])}"
        )
    unusable = ~np.isfinite(values).all(1) | ~values.any(1)
    if unusable.any():
        raise BadCheckpoint(
            f"{file} has embeddings with NaN, infinite or only zero values: {_few(names[unusable])}"
        )


def _few(names: Names) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:_MAX_SHOWN])
    return f"{shown}, ..." if len(names) > _MAX_SHOWN else shown


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
