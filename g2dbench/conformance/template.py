"""Writes commented, working templates of plug-ins and suites."""

import keyword
import re
from pathlib import Path

from g2dbench.errors import Misuse
from g2dbench.system.files import replace_file

FOLDER = Path(__file__).parent / "templates"

KINDS = {
    "model": (".py",),
    "task": (".py",),
    "data": (".py",),
    "method": (".py", ".toml"),
    "suite": (".toml",),
}
"""Kind -> the endings of the files that it consists of; the first is the one that users name."""


def write_template(kind: str, file: Path) -> list[Path]:
    """Write a template; returns the files: FILE, and for a method a recipe beside it.

    The plug-in's name is that of the file. Raises Misuse for a file with another ending, for a name
    that no plug-in can have, and for a file that exists.
    """
    first, *more = KINDS[kind]
    if file.suffix != first:
        raise Misuse(f"{file}: a new {kind} is a {first} file; give {file.with_suffix(first)}")
    name = file.stem
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise Misuse(
            f"{file}: the name of the file becomes the name of the {kind}; use small letters, "
            "digits and underscores, and start with a letter"
        )
    files = [file.with_suffix(suffix) for suffix in (first, *more)]
    if existing := [each for each in files if each.exists()]:
        raise Misuse(f"{existing[0]} exists; it is not overwritten: give another name")
    for each in files:
        _write(each, FOLDER / f"{kind}{each.suffix}.txt", name, file)
    return files


def _write(target: Path, template: Path, name: str, file: Path) -> None:
    words = {
        "NAME": name,
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
        "FILE": str(file),
        "RECIPE": str(file.with_suffix(".toml")),
    }
    text = template.read_text(encoding="utf-8")
    filled = re.sub(r"CLASS|\b(?:NAME|FILE|RECIPE)\b", lambda found: words[found[0]], text)
    replace_file(target, lambda path: path.write_text(filled, encoding="utf-8"))
