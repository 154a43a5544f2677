"""The result format: round trip, hostile files, nothing half-written, the leaderboard."""

import io
import json
import math
import os
from pathlib import Path

import pytest
from rich.console import Console
from support.reporting.results import result

from g2dbench.errors import BadResult
from g2dbench.reporting.leaderboard import formats as leaderboard_formats
from g2dbench.reporting.leaderboard import leaderboard, terminal
from g2dbench.reporting.leaderboard.formats import heading
from g2dbench.result import load, load_all, save
from g2dbench.system.files import replace_file


def test_a_result_survives_the_disk_with_nan(tmp_path: Path) -> None:
    before = result(math.nan)
    after = load(save(before, tmp_path))
    assert math.isnan(after.scores["dice"].value)
    assert after.cell == before.cell


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"schema_version": 99}', '{"schema_version": 1}', "[" * 100000,
        '{"schema_version": "1"}', '{"schema_version": true}', "\x00", '{"a": "\\ud800"}',
        '{"schema_version": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_a_hostile_result_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(BadResult, match=r"result\.json"):
        load(path)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = save(result(), tmp_path)
    raw = json.loads(path.read_text())
    raw["scores"]["dice"]["bonus"] = 1
    path.write_text(json.dumps(raw))
    with pytest.raises(BadResult, match="bonus"):
        load(path)


def test_an_interrupted_write_leaves_the_old_file_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(path, write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_missing_results_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadResult, match="no results folder"):
        load_all(tmp_path / "none")


def test_the_board_averages_seeds() -> None:
    board = leaderboard.build_leaderboard(
        [result(0.4, seed=0), result(0.6, seed=1), result(0.3, model="convirt")]
    )
    (column,) = board.columns
    g2d = board.entries["g2d", column]
    assert (g2d.mean, g2d.seeds) == (0.5, 2)
    assert g2d.spread == pytest.approx(0.2 / math.sqrt(2))
    assert (g2d.low, g2d.high) == (pytest.approx(0.4), pytest.approx(0.6))
    assert board.models == ("g2d", "convirt")
    assert not board.entries["convirt", column].best


def test_missing_cells_are_dashes_with_reasons_never_zeros() -> None:
    board = leaderboard.build_leaderboard(
        [
            result(0.4),
            result(model="medklip", status="unsupported", reason="cannot decode", scores={}),
            result(math.nan, model="empty"),
        ]
    )
    (column,) = board.columns
    assert ("medklip", column) not in board.entries
    assert "cannot decode" in board.reasons["medklip", column]
    assert "undefined" in board.reasons["empty", column]
    assert "| medklip | - |" in leaderboard_formats.to_markdown(board)


def test_the_newest_of_two_equal_cells_counts_and_the_board_says_so() -> None:
    old, new = result(0.9, created="2026-01-01"), result(0.2, created="2026-02-01")
    board = leaderboard.build_leaderboard([new, old])
    (entry,) = board.entries.values()
    assert entry.mean == 0.2
    assert any("1 older result" in note for note in board.notes)


def test_mixed_data_versions_are_named() -> None:
    board = leaderboard.build_leaderboard([result(0.4), result(0.5, model="x", data="rsna")])
    assert not board.notes
    other = result(0.5, model="x")
    other = other.model_copy(
        update={"provenance": other.provenance.model_copy(update={"data": "e"})}
    )
    assert any(
        "mixes 2 versions" in note
        for note in leaderboard.build_leaderboard([result(0.4), other]).notes
    )


def test_limited_cells_have_their_own_column() -> None:
    board = leaderboard.build_leaderboard([result(0.4), result(0.9, limit=3)])
    assert len(board.columns) == 2
    assert any("--limit" in note for note in board.notes)


@pytest.mark.parametrize("form", sorted(leaderboard_formats.TEXT_FORMATS))
def test_every_format_holds_every_model_and_value(form: str) -> None:
    text = leaderboard_formats.TEXT_FORMATS[form](
        leaderboard.build_leaderboard([result(0.4), result(0.3, model="a_b&c")])
    )
    assert "40.0" in text or "0.4" in text
    assert any(name in text for name in ("a_b&c", r"a\_b\&c", r"a\_b&amp;c", "a_b&amp;c"))


def test_json_is_valid_where_values_are_nan() -> None:
    text = leaderboard_formats.to_json(leaderboard.build_leaderboard([result(0.4)]))
    rows = json.loads(text, parse_constant=lambda word: pytest.fail(word))["rows"]
    assert rows[0]["spread"] is None


def test_a_board_of_five_tasks_fits_80_columns() -> None:
    tasks = ("cls", "zeroshot", "seg", "det", "ground")
    cells = [
        result(
            0.987, model=model, task=task, data="synthetic-rsna" if task == "det" else "synthetic"
        )
        for task in tasks
        for model in ("g2d-tiny", "convirt-tiny", "random-init")
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    terminal.show(leaderboard.build_leaderboard(cells), console, reasons=False)
    text = console.export_text()
    assert "…" not in text
    assert text.count("98.7") == len(cells)
    assert "convirt-tiny" in text


def test_another_precision_is_another_column() -> None:
    full, half = result(0.5), result(0.6)
    half = half.model_copy(update={"cell": half.cell.model_copy(update={"precision": "bf16"})})
    board = leaderboard.build_leaderboard([full, half])
    assert [column.precision for column in board.columns] == ["bf16", "fp32"]
    assert heading(board.columns[0])[2].endswith(" bf16")
    assert all(entry.seeds == 1 for entry in board.entries.values())


def test_columns_come_in_the_order_asked_for_and_then_by_name() -> None:
    results = [result(0.5, task=task) for task in ("seg", "own", "cls")]
    columns = leaderboard.build_leaderboard(results, ["seg", "cls"]).columns
    assert [column.task for column in columns] == ["seg", "cls", "own"]
