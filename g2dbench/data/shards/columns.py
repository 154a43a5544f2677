"""What of a shard's row lies where: found by name and type as the reader `hf` does, or by option.

A Parquet column is named as it is. In a tar, a field is what follows the first dot of a member's
name (`png`, `txt`), and `json.study` is the key `study` of the field `json`.
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
    """The columns of a Parquet file; Misuse where the image or the text is not certain."""
    plain = [field.name for field in schema if _is_text(field.type)]
    names = list(schema.names)
    found = _found(names, plain, options, where)
    if "image" not in found:
        images = [field.name for field in schema if _is_image(field, schema)]
        found["image"] = _single(images, names, where)
    return found


def tar_columns(fields: Iterable[str], options: Mapping[str, str], where: str) -> Columns:
    """The fields of a tar's samples, `json.KEY` among them; Misuse as above."""
    names = sorted(set(fields))
    plain = [name for name in names if name.rpartition(".")[2] not in IMAGE_FIELDS]
    found = _found(names, plain, options, where)
    if "image" not in found:
        images = [name for name in names if name.lower() in IMAGE_FIELDS]
        # One field by several names, such as png here and jpg there, is said by "".
        found["image"] = "" if len(images) > 1 else _single(images, names, where)
    return found


def _found(names: list[str], plain: list[str], options: Mapping[str, str], where: str) -> Columns:
    for role, name in options.items():
        if role not in ROLES:
            raise Misuse(f"--option {role}={name}: the keys are {', '.join(ROLES)}")
        if name not in names:
            raise Misuse(f"--option {role}={name}: {where} has only {', '.join(names)}")
    bare = {name.removeprefix("json."): name for name in reversed(plain)}
    found = dict(options)
    for role, aliases in ALIASES.items():
        alike = find_column(list(bare), aliases)
        if alike is not None:
            found.setdefault(role, bare[alike])
    if "text" not in found:
        raise Misuse(
            f"{where} has nothing that is known to hold the report; it has {', '.join(names)}: "
            "say --option text=NAME"
        )
    return found


def _single(images: list[str], names: list[str], where: str) -> str:
    if len(images) != 1:
        raise Misuse(
            f"{where} has {len(images)} columns of images ({', '.join(images) or 'none'}) among "
            f"{', '.join(names)}: say --option image=NAME"
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
    """What `datasets` wrote of its features into a file's metadata."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}
