"""Renders a report as one HTML file.

Everything that comes from results is stranger's text. The template escapes it, data is stored as
JSON in which no `<` is left, the script writes it with `textContent` only, and a content security
policy allows exactly our script and our style, by their digests, and no request to anywhere.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

SCRIPTS = ("page.js", "table.js", "plot.js", "sections.js", "gallery.js", "start.js")
"""The parts of the script, in the order in which they are joined."""

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Page:
    """The content of a report.

    data: what the page reads when it opens. details, cards: blocks that it reads on demand, of
    results and of galleries; pictures: the images of all galleries, read with the first gallery.
    """

    version: str
    notes: list[str]
    problems: list[str]
    data: dict[str, Any]
    details: list[Any]
    cards: list[Any]
    pictures: list[Any]


def render(page: Page) -> str:
    """The HTML of a report."""
    style, script = _file("report.css"), "\n".join(map(_file, SCRIPTS))
    blocks = {
        "data": page.data,
        "pictures": page.pictures,
        **{f"details-{at}": block for at, block in enumerate(page.details)},
        **{f"cards-{at}": block for at, block in enumerate(page.cards)},
    }
    environment = Environment(
        loader=PackageLoader("g2dbench.reporting.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(script, style),
        blocks={name: Markup(to_json(value)) for name, value in blocks.items()},
        results=len(page.data["rows"]),
        models=len(page.data["models"]),
    )


def to_json(value: Any) -> str:
    """JSON that can stand in a script element: it has no character of HTML."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter, escape in _UNSAFE.items():
        text = text.replace(letter, escape)
    return text


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _file(name: str) -> str:
    folder = resources.files("g2dbench.reporting.html") / "templates"
    return (folder / name).read_text(encoding="utf-8")
