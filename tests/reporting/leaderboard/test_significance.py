"""Bold entries: the best and all that the paired test does not show to be worse."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.mask_cells import mask_cell
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.metrics.bootstrap import holm
from g2dbench.registry import Registry
from g2dbench.reporting.class_sizes import class_sizes, small_classes
from g2dbench.reporting.leaderboard.formats import TEXT_FORMATS
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard, build_leaderboard
from g2dbench.reporting.leaderboard.significance import BOLD, mark_best
from g2dbench.reporting.model_comparison import compare_runs
from g2dbench.reporting.stored_results import read_results
from g2dbench.result import PREDICTIONS_FILE, load, save

BEST = [8, 7, 6, 8, 5, 7, 8, 6, 7, 8, 7, 6]
LIKE_IT = [7, 8, 6, 7, 6, 7, 8, 5, 8, 7, 7, 6]
WORSE = [3, 2, 4, 5, 1, 3, 4, 2, 5, 3, 2, 3]


def board_of(folder: Path, **options: int) -> Leaderboard:
    stored, _ = read_results(folder)
    board = build_leaderboard([each.result for each in stored])
    assert not any(entry.best for entry in board.entries.values())
    return mark_best(board, stored, Registry(), **options)


def bold(board: Leaderboard) -> set[str]:
    return {model for (model, _), entry in board.entries.items() if entry.best}


def test_rows_that_are_not_shown_to_be_worse_are_bold_too(tmp_path: Path) -> None:
    for model, found in (("best", BEST), ("like-it", LIKE_IT), ("worse", WORSE)):
        mask_cell(tmp_path, model, 0, found)
    board = board_of(tmp_path)
    assert bold(board) == {"best", "like-it"}
    assert board.bold == BOLD
    for form in ("md", "latex", "json"):
        assert "not significantly worse" in TEXT_FORMATS[form](board)
    assert TEXT_FORMATS["md"](board).count("**") == 4


def test_holm_corrects_within_the_column(tmp_path: Path) -> None:
    """A row that is worse at 5 % alone is not, as one of several."""
    others = {f"m{k}": [*BEST[:k], *(n - 1 for n in BEST[k : k + 6]), *BEST[k + 6 :]]
              for k in range(4)}  # fmt: skip
    for model, found in {"best": BEST, **others}.items():
        mask_cell(tmp_path, model, 0, found)
    runs = {each.result.cell.model: [each] for each in read_results(tmp_path)[0]}
    p = [compare_runs(runs["best"], runs[m], Registry()).difference.p_value for m in others]
    assert max(p) < 0.05 < min(holm(p))
    assert bold(board_of(tmp_path)) == {"best", *others}


def test_the_lower_distance_is_bold(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for model, found in (("near", [8] * 11 + [7]), ("far", list(rng.integers(1, 3, 12)))):
        place = mask_cell(tmp_path, model, 0, [int(n) for n in found])
        before = load(place / "result.json")
        assert "hd95" in before.scores
        save(before.model_copy(update={"metric": "hd95"}), place)
    board = board_of(tmp_path)
    assert board.models[0] == "near"
    assert bold(board) == {"near"}


def test_nothing_is_bold_without_predictions(tmp_path: Path) -> None:
    for model, found in (("a", BEST), ("b", WORSE)):
        (mask_cell(tmp_path, model, 0, found) / PREDICTIONS_FILE).unlink()
    board = board_of(tmp_path)
    assert (bold(board), board.bold) == (set(), "")
    assert any("no stored predictions: b (seg on toy)" in note for note in board.notes)


def test_nothing_is_bold_where_a_class_has_few_patients(tmp_path: Path) -> None:
    for model, found in (("a", BEST[:9]), ("b", WORSE[:9])):
        place = mask_cell(tmp_path, model, 0, found)
        result = load(place / "result.json")
        plenty = {n: s.model_copy(update={"bearers": 99}) for n, s in result.scores.items()}
        save(result.model_copy(update={"scores": plenty}), place)
    board = board_of(tmp_path)
    assert not bold(board)
    assert any("fewer than 10 test patients: opacity (9 with it)" in n for n in board.notes)


def test_one_model_alone_and_too_many_tests(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, BEST)
    assert not bold(board_of(tmp_path))
    mask_cell(tmp_path, "b", 0, WORSE)
    board = board_of(tmp_path, max_tests=0)
    assert not bold(board)
    assert "--bold always" in board.notes[-1]
    found = {
        mode: CliRunner().invoke(
            app, ["leaderboard", str(tmp_path), "--format", "md", "--bold", mode]
        )
        for mode in ("auto", "always", "never")
    }
    assert [each.output.count("**") for each in found.values()] == [2, 2, 0]


def test_runs_of_other_data_are_not_tested(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, BEST)
    mask_cell(tmp_path, "b", 0, LIKE_IT, subset="another")
    board = board_of(tmp_path)
    assert not bold(board)
    assert any("cannot be compared" in note for note in board.notes)


def test_class_sizes_count_patients_not_images() -> None:
    table = pd.DataFrame({
        "id": list("abcdef"), "patient": ["p", "p", "q", "r", "r", "s"],
        "finding": "edema", "truth": [1.0, 1.0, 0.0, 1.0, 0.0, -1.0],
    })  # fmt: skip
    assert class_sizes(table) == {"edema": (2, 2)}
    assert small_classes(table, masks_or_boxes=False) == ["edema (2 with it)"]
    boxes = table.assign(truth=[[1, 2, 3, 4], [], [], [], [], []])
    assert class_sizes(boxes) == {"edema": (1, 4)}
    assert class_sizes(table.drop(columns="truth")) == {}


@pytest.mark.parametrize("absent", [0, 4, 10])
def test_few_patients_without_the_finding_matter_for_labels_only(absent: int) -> None:
    total = 20 + absent
    table = pd.DataFrame({
        "id": range(total), "patient": range(total), "finding": "edema",
        "truth": [1.0] * 20 + [0.0] * absent,
    })  # fmt: skip
    assert bool(small_classes(table, masks_or_boxes=False)) == (absent == 4)
    assert not small_classes(table, masks_or_boxes=True)
