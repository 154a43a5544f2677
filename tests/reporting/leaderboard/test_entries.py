"""The leaderboard: kinds of seeds, failed runs, few bearers, columns, strangers' text, speed."""

import csv
import io
import json
import math
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from statistics import stdev

import pytest
from rich.console import Console
from support.reporting.results import result
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.reporting.leaderboard import formats as leaderboard_formats
from g2dbench.reporting.leaderboard import terminal
from g2dbench.reporting.leaderboard.leaderboard import Entry, build_leaderboard
from g2dbench.result import Result, Score, save


def only_entry(results: list[Result]) -> Entry:
    (entry,) = build_leaderboard(results).entries.values()
    return entry


def text_of(results: list[Result], width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    terminal.show(build_leaderboard(results), console, reasons=True)
    return console.export_text()


def test_model_seeds_and_subset_seeds_are_two_spreads() -> None:
    values = {(0, 0): 0.3, (0, 1): 0.4, (1, 0): 0.5, (1, 1): 0.7}
    found = only_entry(
        [result(v, seed=s, model_seed=s, subset_seed=d) for (s, d), v in values.items()]
    )
    assert found.spread == pytest.approx(stdev([0.35, 0.6]))
    assert found.subset_spread == pytest.approx(stdev([0.4, 0.55]))
    assert leaderboard_formats.format_mean(found) == "47.5±17.7±10.6s"


def test_one_kind_of_seed_has_one_spread() -> None:
    subsets = only_entry([result(v, subset_seed=d) for d, v in enumerate((0.3, 0.5))])
    assert math.isnan(subsets.spread)
    assert subsets.subset_spread == pytest.approx(stdev([0.3, 0.5]))
    training = only_entry([result(v, seed=s) for s, v in enumerate((0.3, 0.5))])
    assert training.spread == pytest.approx(stdev([0.3, 0.5]))
    assert math.isnan(training.subset_spread)


def test_failed_and_undefined_seeds_are_shown() -> None:
    results = [
        result(0.4, seed=0),
        result(0.6, seed=1),
        result(seed=2, status="failed", reason="no space left", scores={}),
        result(math.nan, seed=3),
    ]
    found = only_entry(results)
    assert (found.mean, found.seeds, found.runs) == (0.5, 2, 4)
    text = text_of(results)
    assert "2 of 4 seeds" in text
    assert "no space left" in text
    for form in ("md", "latex"):
        board = build_leaderboard(results)
        assert "2 of 4 seeds" in leaderboard_formats.TEXT_FORMATS[form](board)


def test_a_score_of_few_patients_is_not_bold_and_warned_about() -> None:
    def scored(model: str, value: float, bearers: int) -> Result:
        score = Score(value=value, low=value, high=value, n=99, bearers=bearers)
        return result(model=model, scores={"dice": score})

    board = build_leaderboard([scored("lucky", 1.0, 9), scored("solid", 0.5, 10)])
    assert not any(entry.best for entry in board.entries.values())
    assert any("fewer than 10 patients" in note for note in board.notes)
    assert not build_leaderboard([scored("solid", 0.5, 10)]).notes


@pytest.mark.parametrize(
    "change",
    [{"shots": 4}, {"draw": "random"}, {"validation": "budget"}, {"precision": "bf16"},
     {"config": {"protocol": {"lr": 2}}}],
)  # fmt: skip
def test_settings_that_differ_are_never_merged_into_one_column(change: dict[str, object]) -> None:
    first = result(0.4, config={"protocol": {"lr": 1}})
    board = build_leaderboard([first, result(**({"config": {"protocol": {"lr": 1}}} | change))])
    assert len(board.columns) == 2
    heads = {" ".join(leaderboard_formats.heading(column)) for column in board.columns}
    assert len(heads) == 2


def test_imported_results_are_marked() -> None:
    board = build_leaderboard([result(), result(model="theirs", details={"imported": True})])
    assert "Imported, predictions made elsewhere: theirs." in board.notes


def test_limited_runs_are_shown_on_request_only(tmp_path: Path) -> None:
    save(result(0.9, limit=3, model="smoke"), tmp_path / "a")
    run = CliRunner().invoke
    alone = run(app, ["leaderboard", str(tmp_path)])
    assert alone.exit_code == 1
    assert "--with-limited" in alone.output
    save(result(0.4), tmp_path / "b")
    found = run(app, ["leaderboard", str(tmp_path), "--format", "csv"])
    assert found.exit_code == 0
    assert "smoke" not in found.stdout
    assert "1 result run with --limit left out" in found.stderr
    assert "smoke" in run(app, ["leaderboard", str(tmp_path), "--with-limited"]).stdout


HOSTILE = [
    "=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(A1)", "[bold]x[/]", "[/x]", "\x1b[31mred",
    r"\input{/etc/passwd}", "a\\b", "<script>alert(1)</script>", "a|b", "[x](http://y)", "a\nb",
    "\u202egnp", "*x*",
]  # fmt: skip


HTML_TAGS = {
    "html", "head", "meta", "title", "style", "body", "table", "tr", "th", "td", "br", "b",
    "small", "p",
}  # fmt: skip


def tags_of(page: str) -> set[str]:
    found: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add(tag)
            assert {name for name, _ in attrs} <= {
                "lang",
                "charset",
                "http-equiv",
                "content",
                "scope",
            }

    Tags().feed(page)
    return found


def test_the_html_page_has_every_entry_of_the_table() -> None:
    board = build_leaderboard([result(0.25, model="a"), result(0.5, model="b", data="other")])
    page = leaderboard_formats.to_html(board)
    rows = [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr>.*?</tr>", page)]
    assert [row[0] for row in rows] == ["model", "a", "b"]
    by_model = {row[0]: row for row in rows}
    assert ("25.0" in by_model["a"], "25.0" in by_model["b"]) == (True, False)
    assert ("50.0" in by_model["a"], "50.0" in by_model["b"]) == (False, True)
    assert page.count("15.0–35.0") == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_strangers_text_is_text_in_every_format(name: str) -> None:
    results = [result(model=name, data=name), result(model="b", status="failed", reason=name)]
    text = text_of(results, width=200)
    board = build_leaderboard(results)
    texts = {form: make(board) for form, make in leaderboard_formats.TEXT_FORMATS.items()}
    for each in (text, texts["md"], texts["csv"], texts["latex"], texts["html"]):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", each)
    if name.isprintable() and name != "\u202egnp":
        assert name in text
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert not any(value.startswith(("=", "+", "@")) for row in rows for value in row.values())
    assert not any(row[column].startswith("-") for row in rows for column in ("model", "data"))
    assert r"\input" not in texts["latex"]
    assert r"\b" not in re.sub(r"\\(textbackslash|textbf|begin|bottomrule)", "", texts["latex"])
    assert "<script>" not in texts["md"]
    assert tags_of(texts["html"]) <= HTML_TAGS
    assert len(json.loads(texts["json"])["rows"]) == len(board.models) * len(board.columns)
    widths = {line.count("|") - line.count(r"\|") for line in texts["md"].splitlines()
              if line.startswith("| ")}  # fmt: skip
    assert len(widths) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("models", "columns"), [(1000, 100), (100, 1000), (50_000, 2)])
def test_a_hundred_thousand_results_take_under_five_seconds(models: int, columns: int) -> None:
    template = result(0.5)
    results = []
    for m in range(models):
        origin = template.provenance.model_copy(update={"weights": f"w{m}"})
        for c in range(columns):
            cell = template.cell.model_copy(update={"model": f"m{m}", "data": f"d{c}"})
            results.append(template.model_copy(update={"cell": cell, "provenance": origin}))
    began = time.process_time()
    board = build_leaderboard(results)
    seconds = time.process_time() - began
    assert len(board.entries) == 100_000
    assert seconds < 5


def test_many_settings_of_one_protocol_take_linear_time() -> None:
    results = [result(0.5, config={"protocol": {"lr": k, "b": {"x": [1, 2]}}}) for k in range(5000)]
    began = time.process_time()
    board = build_leaderboard(results)
    assert time.process_time() - began < 3
    assert len(board.columns) == 5000


def test_the_order_of_settings_does_not_matter() -> None:
    configs = [{"protocol": {"a": 1, "b": 2}}, {"protocol": {"b": 2, "a": 1}}]
    board = build_leaderboard([result(0.5, config=each, seed=k) for k, each in enumerate(configs)])
    assert len(board.columns) == 1


def test_a_protocol_with_many_changes_folds_and_no_model_vanishes() -> None:
    protocol = "medklip+batch_size=32+epochs=5+lr=0.0001+min_steps_per_epoch=10+size=64"
    long_value = f"g2d+comment={'x' * 60}"
    results = [
        result(0.5 + at / 10, model="some-model", protocol=name)
        for at, name in enumerate(("g2d", protocol, long_value))
    ]
    for width in (50, 80, 200):
        lines = text_of(results, width).splitlines()
        assert max(map(len, lines)) <= width
        tables = sum(line.startswith("┡") for line in lines)
        assert sum("some-model" in line for line in lines) == tables
        folded = "".join(line for line in lines).replace("┃", "").replace(" ", "")
        assert "+min_steps_per_epoch=10" in folded
        assert all(f"{value:.1f}" in "".join(lines) for value in (50.0, 60.0, 70.0))


def test_a_heading_does_not_break_in_the_middle_of_a_word() -> None:
    lines = text_of([result(0.5, protocol='small+findings=["pleural effusion"]')], 80).splitlines()
    heads = [line.split("┃")[2].strip() for line in lines if line.startswith("┃")]
    assert heads[1:3] == ["+findings=", '["pleural effusion"]']
