"""Changes of single fields of frozen settings, such as `--set uncertain=zeros`.

Settings are dataclasses, some inside others. A field is named by its own name if no other field
has it (`epochs`), or by its path (`fit.epochs`). Values are as in TOML; a bare word is text.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from g2dbench.errors import Misuse
from g2dbench.field_errors import sentences
from g2dbench.registry import unknown_name
from g2dbench.system.bounded_files import parse_toml

S = TypeVar("S")

MARK = "+"
_WORDS = re.compile(r"\+(?=[A-Za-z_][\w.]*=)")
_FIXED = ("version",)
"""Fields that say which settings these are, and are no settings themselves."""


def settable(settings: object) -> list[str]:
    """The names of the fields that `override` can change."""
    return list(_named_fields(settings))


class _Field(NamedTuple):
    path: tuple[str, ...]
    type: Any
    value: Any


def split_name(name: str) -> tuple[str, list[str]]:
    """`sweep+uncertain=zeros` -> the name `sweep` and its changes, `["uncertain=zeros"]`."""
    base, *changes = _WORDS.split(name)
    return base, changes


def join_name(base: str, changes: Iterable[str]) -> str:
    """The inverse of `split_name`; Misuse for a change that is not `FIELD=VALUE`."""
    words = [change.strip() for change in changes]
    for word in words:
        if not _WORDS.match(f"{MARK}{word}"):
            raise Misuse(f"--set {word!r} is not FIELD=VALUE, such as epochs=20")
    return MARK.join([base, *words])


def override(settings: S, changes: Iterable[str]) -> tuple[S, list[str]]:
    """The settings with `FIELD=VALUE` changes, and the changes in their one written form.

    The written form is sorted, and lacks a change to the value that the field has anyway, so that
    equal settings have equal names. Raises Misuse for an unknown field, a value of another type,
    a field that is changed twice, and values that do not go together.
    """
    fields = _named_fields(settings)
    changed = settings
    written: dict[str, str] = {}
    for change in changes:
        name, value = _parse(change, fields)
        if name in written:
            raise Misuse(f"--set changes {name} twice")
        written[name] = f"{name}={_text(value)}"
        if value == fields[name].value:
            written[name] = ""
        changed = _replaced(changed, fields[name].path, value, change)
    return changed, sorted(filter(None, written.values()))


def _parse(change: str, fields: Mapping[str, _Field]) -> tuple[str, Any]:
    """A change's field, by its shortest name, and its value."""
    key, _, text = (part.strip() for part in change.partition("="))
    found = [name for name, field in fields.items() if key in (name, ".".join(field.path))]
    if not found:
        raise Misuse(unknown_name("setting of the protocol", key, list(fields)))
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    try:
        return found[0], TypeAdapter(fields[found[0]].type).validate_python(value)
    except ValidationError as error:
        raise Misuse(f"--set {change}: {sentences(error)}") from error


def _named_fields(settings: Any) -> dict[str, _Field]:
    """The fields that can be changed, by their own names, or by their paths if not unique."""
    fields = list(_fields(settings, ()))
    names = [field.path[-1] for field in fields]
    return {
        name if names.count(name) == 1 else ".".join(field.path): field
        for name, field in zip(names, fields, strict=True)
    }


def _fields(settings: Any, path: tuple[str, ...]) -> Iterator[_Field]:
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        here = (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, here)
        elif field.name not in _FIXED and not isinstance(value, Mapping):
            yield _Field(here, hints[field.name], value)


def _replaced(settings: Any, path: tuple[str, ...], value: Any, change: str) -> Any:
    if len(path) > 1:
        value = _replaced(getattr(settings, path[0]), path[1:], value, change)
    try:
        return dataclasses.replace(settings, **{path[0]: value})
    except ValueError as error:
        raise Misuse(f"--set {change}: {error}") from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
