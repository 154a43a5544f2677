"""Finds the columns of a shard that hold the image, the report, ..., by name and type or by option.

The rules are those of the reader `hf`. The name of a Parquet column is used as it is. In a tar,
a column is the part of a member's name after the first dot (`png`, `txt`), and `json.study` is the
key `study` of the field `json`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from g2dbench.data.custom._hf_features import TEXT_ALIASES
from g2dbench.data.images.image_file import EXTENSIONS
from g2dbench.data.tables.columns import find_column
from g2dbench.errors import Misuse

ROLES = ("image", "text", "id", "study", "view", "split")
ALIASES = {**{role: TEXT_ALIASES[role] for role in ("text", "study", "view", "split")},
           "id": ("__key__", "id")}  # fmt: skip
IMAGE_FIELDS = tuple(extension[1:] for extension in EXTENSIONS)

Columns = dict[str, str]


def parquet_columns(schema: pa.Schema, options: Mapping[str, str], where: str) -> Columns:
    """Return the columns of a Parquet file by role; Misuse if the image or text is ambiguous."""
    texts = [field.name for field in schema if _is_text(field.type)]
    names = list(schema.names)
    found = _match_columns(names, texts, options, where)
    if "image" not in found:
        images = [field.name for field in schema if _is_image(field, schema)]
        found["image"] = _single(images, names, where)
    return found


def tar_columns(fields: Iterable[str], options: Mapping[str, str], where: str) -> Columns:
    """Return the fields of a tar's samples by role; Misuse if the image or text is ambiguous.

    fields: names of the fields, with `json.KEY` for the keys of `json`.
    """
    names = sorted(set(fields))
    texts = [name for name in names if name.rpartition(".")[2] not in IMAGE_FIELDS]
    found = _match_columns(names, texts, options, where)
    if "image" not in found:
        images = [name for name in names if name.lower() in IMAGE_FIELDS]
        # "" stands for several image fields, such as png in some samples and jpg in others.
        found["image"] = "" if len(images) > 1 else _single(images, names, where)
    return found


def _match_columns(
    names: list[str], texts: list[str], options: Mapping[str, str], where: str
) -> Columns:
    for role, name in options.items():
        if role not in ROLES:
            raise Misuse(f"--option {role}={name}: the keys are {', '.join(ROLES)}")
        if name not in names:
            raise Misuse(f"--option {role}={name}: {where} has only {', '.join(names)}")
    by_name = {name.removeprefix("json."): name for name in reversed(texts)}
    found = dict(options)
    for role, aliases in ALIASES.items():
        match = find_column(list(by_name), aliases)
        if match is not None:
            found.setdefault(role, by_name[match])
    if "text" not in found:
        raise Misuse(
            f"none of the columns of {where} is known to hold the report ({', '.join(names)}): "
            "name it with --option text=NAME"
        )
    return found


def _single(images: list[str], names: list[str], where: str) -> str:
    if len(images) != 1:
        raise Misuse(
            f"{where} has {len(images)} columns of images ({', '.join(images) or 'none'}) among "
            f"{', '.join(names)}: choose one with --option image=NAME"
        )
    return images[0]


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    )


def _is_image(field: pa.Field, schema: pa.Schema) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        return any(kind.field(at).name == "bytes" for at in range(kind.num_fields))
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(is_bytes) or _features(schema).get(field.name, {}).get("_type") == "Image"


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the features that `datasets` wrote into the metadata of a Parquet file."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}
