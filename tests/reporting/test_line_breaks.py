"""Lines of headings: broken at sensible places, cut only where nothing else helps."""

import random
import time

import pytest
from rich.console import Console
from rich.table import Table

from g2dbench.reporting.line_breaks import BrokenText, break_lines

EFFUSION = 'seg:small+findings=["pleural effusion"]'


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("cls:g2d", 24, ["cls:g2d"]),
        ("", 24, [""]),
        (EFFUSION, 24, ["seg:small", "+findings=", '["pleural effusion"]']),
        (EFFUSION, 30, ["seg:small", '+findings=["pleural effusion"]']),
        (
            f"{EFFUSION} synthetic 5% dice",
            30,
            ["seg:small", '+findings=["pleural effusion"]', "synthetic 5% dice"],
        ),
        (
            "finetune:ours+epochs=3+min_steps_per_epoch=5",
            24,
            ["finetune:ours+epochs=3", "+min_steps_per_epoch=5"],
        ),
        ("det+findings=[one,two,three]", 12, ["det", "+findings=", "[one,two,", "three]"]),
        ('+findings=["pleural effusion"]', 12, ["+findings=", '["pleural', 'effusion"]']),
        ("g2d+comment=" + "x" * 30, 24, ["g2d", "+comment=", "x" * 24, "x" * 6]),
        ("zero n<=10 bf16", 8, ["zero", "n<=10", "bf16"]),
    ],
)
def test_lines_by_hand(text: str, width: int, lines: list[str]) -> None:
    assert break_lines(text, width) == lines


def test_no_letter_is_lost_and_no_line_is_too_long() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choices('ab +=,[]"', k=draw.randrange(60)))
        width = draw.randrange(1, 30)
        lines = break_lines(text, width)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert max(map(len, lines)) <= width


def test_a_long_text_of_a_stranger_takes_linear_time() -> None:
    began = time.process_time()
    break_lines("a [" * 30_000 + "+=" * 30_000, 24)
    assert time.process_time() - began < 3


def test_a_column_of_a_table_breaks_at_its_own_width() -> None:
    table = Table(box=None, padding=0, pad_edge=False)
    table.add_column("cell", ratio=1)
    table.add_column("score", no_wrap=True)
    table.add_row(BrokenText(EFFUSION), "46.7")
    for width, lines in (
        (80, ["cell score", f"{EFFUSION}46.7"]),
        (36, ["cell score", "seg:small 46.7", '+findings=["pleural effusion"]']),
    ):
        console = Console(width=width)
        with console.capture() as capture:
            console.print(table)
        assert [" ".join(line.split()) for line in capture.get().splitlines()] == lines
