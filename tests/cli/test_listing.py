"""What the lists and the help look like in a terminal: whole words, within its width."""

import re

import pytest
from typer.testing import CliRunner

from g2dbench.cards import Card, DatasetCard, MethodCard, ModelCard, TaskCard
from g2dbench.cli import app
from g2dbench.cli.blocks import Block
from g2dbench.recipes import recipe
from g2dbench.registry import Registry

CARDS: dict[str, type[Card]] = {
    "models": ModelCard, "tasks": TaskCard, "data": DatasetCard, "methods": MethodCard,
}  # fmt: skip


def shown(monkeypatch: pytest.MonkeyPatch, width: int, *words: str) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("kind", [*CARDS, "recipes"])
def test_a_list_fits_the_terminal_and_breaks_no_word(
    monkeypatch: pytest.MonkeyPatch, kind: str, width: int
) -> None:
    text = shown(monkeypatch, width, "list", kind)
    lines = text.splitlines()
    assert all(len(line) <= width or " " not in line.strip() for line in lines)
    if width >= 80:
        assert max(map(len, lines)) <= width
    words = set(text.split())
    for wanted in _texts(kind):
        assert set(wanted.split()) <= words, wanted


def _texts(kind: str) -> list[str]:
    if kind == "recipes":
        return [f"{name} {recipe.load(name).summary}" for name in recipe.names()]
    return [f"{card.name} {card.summary}" for card in Registry().cards(CARDS[kind])]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_block_wraps_between_words_and_leaves_out_what_is_empty(width: int) -> None:
    address = "huggingface.co/somebody/a-model-with-a-long-name"
    block = Block("name", "what it is in some words", (("from", address), ("licence", "")))
    lines = block.lines(width)
    assert lines[0].startswith("name  what")
    assert any(address in line for line in lines)
    assert not any("licence" in line for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


def test_the_help_lists_the_commands_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 80, "--help")
    panels = re.findall(r"^╭─ ([A-Z][a-z ]+) ─", text, re.MULTILINE)
    assert panels == [
        "Options", "Start here", "Train", "Evaluate", "Compare", "Data", "Look", "Extend"
    ]  # fmt: skip
    for name in ("pretrain", "eval", "leaderboard", "data", "list"):
        assert re.search(rf"^│ {name} ", text, re.MULTILINE)
    assert "Commands" not in panels
