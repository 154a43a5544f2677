"""Files that a stranger may send, read with limits of size, depth and digits.

Every refusal is a ValueError whose text says what is too large; callers name the file and raise
their own error.
"""

import io
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_DEPTH = 100
"""Objects and lists within one another; what reads them recurses."""

MAX_DIGITS = 19
"""Of a whole number: what fits into 64 bits."""

MAX_TOML_BYTES = 1 << 18
MAX_TOML_DEPTH = 16
"""Recipes, suites and prompt sets have two or three; tomllib takes time quadratic in the depth."""


@contextmanager
def open_regular(path: Path, max_bytes: int) -> Iterator[io.BufferedReader]:
    """Open a regular file of at most `max_bytes` bytes for reading.

    ValueError: the file is too large, or it is a folder, a device or a pipe, which would block.
    OSError as from `open`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is no regular file")
        if found.st_size > max_bytes:
            raise ValueError(
                f"{path} has {found.st_size:,} bytes; g2dbench reads at most {max_bytes:,}"
            )
        yield file


def read_text(path: Path, max_bytes: int) -> str:
    """The UTF-8 text of a file; errors as from `open_regular`."""
    with open_regular(path, max_bytes) as file:
        return file.read(max_bytes).decode("utf-8")


def read_json(path: Path, max_bytes: int) -> Any:
    """The value of a JSON file; errors as from `open_regular` and `parse_json`."""
    return parse_json(read_text(path, max_bytes))


def parse_json(text: str) -> Any:
    """Parse JSON; ValueError if it is invalid, too deep, or has a number of too many digits."""
    try:
        value = json.loads(text, parse_int=_bounded_int)
    except RecursionError as error:
        raise ValueError(f"more than {MAX_DEPTH} objects or lists within one another") from error
    _check_depth(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; ValueError (of which TOMLDecodeError is one) if it is invalid or too deep."""
    if len(text) > MAX_TOML_BYTES:
        raise ValueError(f"{len(text):,} characters; at most {MAX_TOML_BYTES:,} are read")
    if _DEEP_KEY.search(text):
        raise ValueError(f"a key of more than {MAX_TOML_DEPTH} parts")
    depth = 0
    for mark in _TOML_STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        if depth > MAX_TOML_DEPTH:
            raise ValueError(f"more than {MAX_TOML_DEPTH} tables or lists within one another")
    return tomllib.loads(text)


_KEY_PART = r"(?:[\w-]++|\"[^\"\n]{0,200}+\"|'[^'\n]{0,200}+')"
_DEEP_KEY = re.compile(rf"(?<![\w-]){_KEY_PART}(?:[ \t]*+\.[ \t]*+{_KEY_PART}){{{MAX_TOML_DEPTH}}}")
_TOML_STRUCTURE = re.compile(
    r'"""(?s:.*?)(?:"""|\Z)|' + r"'''(?s:.*?)(?:'''|\Z)|"
    r'"(?:\\.|[^"\\\n])*+"?|' + r"'[^'\n]*+'?|#[^\n]*+|[][{}]"
)
"""Strings and comments, whose brackets do not count, and brackets."""


def _bounded_int(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits, such as {digits[:8]}...")
    return int(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]  # fmt: skip
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} objects or lists within one another")
