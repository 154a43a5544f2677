"""Sentences for values that pydantic refuses: the field, what stands there, what it must be.

entry 1 of fractions = 2.0 must be at most 1
title in entry 3 of rows is missing
"""

from collections.abc import Callable, Mapping, Sequence
from reprlib import Repr
from typing import Any

from pydantic import ValidationError

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_OWN = ("value_error", "assertion_error")
"""Errors of our validators, whose messages are sentences already."""

_MUST_BE = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text in quotes",
    "path_type": "a path in quotes",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "dataclass_type": "a table",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "{min_length} characters long or longer",
    "string_too_long": "{max_length} characters long or shorter",
}
_LISTS = ("tuple_type", "list_type", "set_type", "frozen_set_type")

UnknownField = Callable[[Sequence[str]], str]
"""The sentence for the path of a field that does not exist."""


def sentences(
    error: ValidationError, unknown: UnknownField | None = None, inside: tuple[str, ...] = ()
) -> str:
    """All errors, separated by semicolons.

    unknown: for fields that do not exist. inside: the path of the table that was validated.
    """
    return "; ".join(_sentence(found, inside, unknown) for found in _errors(error))


def first_sentence(error: ValidationError) -> str:
    """The first error alone: for files of strangers, which may have thousands."""
    return _sentence(_errors(error)[0])


def _errors(error: ValidationError) -> list[dict[str, Any]]:
    """All errors but one: pydantic also calls a list short of which an entry is wrong."""
    return [
        dict(found)
        for found in error.errors()
        if found["type"] != "too_short" or len(found["input"]) < found["ctx"]["min_length"]
    ]


def _sentence(
    found: Mapping[str, Any], inside: tuple[str, ...] = (), unknown: UnknownField | None = None
) -> str:
    """One entry of `ValidationError.errors()`."""
    where, kind = _place((*inside, *found["loc"])), found["type"]
    if kind in _UNKNOWN:
        return unknown([str(part) for part in found["loc"]]) if unknown else f"{where} is unknown"
    if kind == "missing":
        return f"{where} is missing"
    if kind in _OWN:
        reason = found["msg"].partition(", ")[2]  # after "Value error"
        return f"{where}: {reason}" if where else reason
    value = _shown(found["input"])
    return f"{where} = {value} {_reason(found)}" if where else f"{value} {_reason(found)}"


def _place(path: Sequence[str | int]) -> str:
    """`("rows", 2, "title")` -> "title in entry 3 of rows"."""
    text = ""
    for before, part in zip(("", *path), path, strict=False):
        if isinstance(part, int):
            text = f"entry {part + 1} of {text}" if text else f"entry {part + 1}"
        elif isinstance(before, int):
            text = f"{part} in {text}"
        else:
            text = f"{text}.{part}" if text else part
    return text


def _reason(found: Mapping[str, Any]) -> str:
    kind = found["type"]
    context = {name: _number(value) for name, value in found.get("ctx", {}).items()}
    if kind in _LISTS:
        name = found["loc"][-1] if found["loc"] else "it"
        return f"must be a list: write {name} = [...]"
    if kind == "too_short" and context["min_length"] == 1:
        return "is empty: name at least one, or leave the field out"
    if kind in ("too_short", "too_long"):
        limit = f"{context['min_length']} entries or more" if kind == "too_short" else ""
        return f"must have {limit or str(context['max_length']) + ' entries at most'}"
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind].format(**context)}"
    message: str = found["msg"]
    return f"must be {message.removeprefix('Input should be ')}"


def _number(value: object) -> object:
    """1.0 as 1: the limits of a number are written as people write them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    """The value in a few characters; a stranger's may be long, deep, or of 5,000 digits."""
    short = Repr()
    short.maxlevel, short.maxstring, short.maxlong, short.maxother = 2, 60, 40, 60
    try:
        return short.repr(value)
    except ValueError:  # Python writes no number with more than 4,300 digits
        return "a number of many digits"
