"""docs/walkthrough.md: its commands exist, and all results commands are there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.embedded_results import PAGE, Block, blocks, run, shortened, with_outputs
from g2dbench.cli import app
from g2dbench.cli.panels import COMPARE
from g2dbench.registry import Registry

TEXT = PAGE.read_text(encoding="utf-8")
FOUND = list(blocks(TEXT))
GROUP: Any = typer.main.get_command(app)
ALSO = {
    "errors", "figure efficiency", "figure forest", "figure masks", "import", "rerun",
    "sweep",
}  # fmt: skip
"""Commands of other panels that read or write results."""


def commands(text: str) -> list[list[str]]:
    """The words after `g2dbench` of each command in a shell block; loops and `cat` are left out."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("g2dbench ")]


def parse(words: list[str]) -> str:
    """Parse a command as the command line does, without running it; returns its name."""
    context = GROUP.make_context("g2dbench", list(words))
    names: list[str] = []
    command, rest = GROUP, words
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, list(rest))
        names.append(name)
        context = command.make_context(name, list(rest), parent=context)
    return " ".join(names)


USED = [words for block in FOUND if block.language == "sh" for words in commands(block.text)]


@pytest.mark.parametrize("words", USED, ids=shlex.join)
def test_each_command_is_spelled_as_the_command_line_has_it(words: list[str]) -> None:
    # A shell variable and a pattern of file names stand for numbers and paths here.
    assert parse([word.replace("$seed", "0") for word in words]) in " ".join(words)


@pytest.mark.parametrize(
    "words", [["leaderbord"], ["leaderboard", "--formt", "md"], ["compare", "a"]], ids=shlex.join
)
def test_the_check_finds_faults(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such|Missing"):
        parse(words)


def test_every_results_command_is_on_the_page() -> None:
    used = {parse([word.replace("$seed", "0") for word in words]) for words in USED}
    compare = {n for n, c in GROUP.commands.items() if c.rich_help_panel == COMPARE}
    assert (compare | ALSO) - used == set()


def test_every_task_and_every_format_is_on_the_page() -> None:
    plan = next(block.text for block in FOUND if "plan.toml" in block.text)
    for task in Registry().task_order():
        assert f'"{task}": (' in plan
    for form in ("md", "csv", "latex", "json", "html"):
        assert any(f"leaderboard results/zeroshot --format {form}" in b.text for b in FOUND)


def test_every_block_has_output_and_no_path_of_a_machine() -> None:
    for block in FOUND:
        written_only = block.language == "python" and "print(" not in block.text
        assert written_only or block.output, f"run benchmarks/embedded_results.py: {block.text}"
    assert not re.search(r"/(tmp|home|root|work|Users)/", TEXT)


def test_the_outputs_of_a_page_can_be_replaced(tmp_path: Path) -> None:
    page = (
        "# A\n\n<!-- run: first 1, exit 3 -->\n```sh\necho a; exit 3\n```\n\n```\nold\n```\n\nB\n"
    )
    (block,) = blocks(page)
    assert block == Block("sh", "echo a; exit 3\n", "old\n", first=1, code=3)
    assert run(block, tmp_path) == (3, "a\n")
    new = with_outputs(page, ["a\n"])
    assert new == page.replace("old", "a\n[exit code 3]")
    assert with_outputs(new, ["a\n"]) == new
    without = with_outputs(page.replace(", exit 3", ""), [""])
    assert without == "# A\n\n<!-- run: first 1 -->\n```sh\necho a; exit 3\n```\n\nB\n"
    assert with_outputs(without, ["b"]) == page.replace(", exit 3", "").replace("old", "b")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["0", "1", "2", "3", "4"]),
        ({"first": 1}, ["0", "..."]),
        ({"first": 1, "last": 2}, ["0", "...", "3", "4"]),
        ({"first": 0, "last": 2}, ["...", "3", "4"]),
        ({"first": 2, "last": 2}, ["0", "1", "2", "3", "4"]),
        ({"first": 9}, ["0", "1", "2", "3", "4"]),
    ],
)
def test_long_outputs_are_shortened(options: dict[str, int], shown: list[str]) -> None:
    output = "".join(f"{number}\n" for number in range(5))
    assert shortened(Block("sh", "", None, **options), output).splitlines() == shown
