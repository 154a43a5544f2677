"""Pages of the documentation: their code blocks, which tests run, and their links."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from g2dbench.cli import app

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block; title: the file that it shows, if it shows one."""

    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(*match.groups()) for match in _BLOCK.finditer(text)]
    fences = sum(line.startswith("```") for line in text.splitlines())
    untyped = len(re.findall(r"^```\n(?:(?!```).*\n)*```$", text, re.MULTILINE))
    assert fences == 2 * (len(found) + untyped), f"{page}: a block of another kind"
    return found


def run_page(page: Path, before: Callable[[str], None] = lambda _: None) -> list[str]:
    """Do what a reader of the page does, in the working directory; returns outputs of commands.

    Files are written, Python code runs in one namespace, and `g2dbench` commands of `sh` blocks are
    run. before: called with each command.
    """
    namespace: dict[str, object] = {"__name__": page.stem}
    outputs = []
    for block in blocks(page):
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            code = compile(block.text, str(page), "exec", dont_inherit=True)
            exec(code, namespace)  # noqa: S102 -- a page of this repository
        elif block.language == "sh":
            for command in commands(block.text):
                before(command)
                outputs.append(run(command))
    return outputs


def commands(text: str) -> list[str]:
    """The g2dbench commands of a shell script, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.partition(" #")[0].strip() for line in lines]
    return [line for line in found if line.startswith("g2dbench ")]


def run(command: str) -> str:
    """Run a command of the command line in this process; it must exit with 0."""
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, f"{command}\n{done.output}"
    return done.output
