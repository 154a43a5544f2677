"""Two models are two rows, whatever they are called; one model under two names is told."""

import pytest
from support.reporting.results import stored

from g2dbench.evaluation.model_reference import ModelReference, same_names
from g2dbench.reporting import model_names
from g2dbench.reporting.gate import regression_gate
from g2dbench.reporting.gate.gate_formats import junit
from g2dbench.reporting.leaderboard import formats as leaderboard_formats
from g2dbench.reporting.leaderboard import leaderboard
from g2dbench.result import Cell, Provenance, Result, Score

LABEL = "encoder:resnet50@best.pth"
A, B = "a" * 64, "b" * 64


def result(
    value: float,
    weights: str,
    *,
    label: str = LABEL,
    source: str = "",
    seed: int | None = None,
    head: int = 0,
    created: str = "2026-01-01",
) -> Result:
    cell = Cell(
        model=label, model_seed=seed, task="cls", data="rsna", protocol="g2d", fraction=1, seed=head
    )
    origin = Provenance(
        version="0", weights=weights, source=source, data="d", subset="s", created=created
    )
    scores = {"auc": Score(value=value, low=value, high=value, n=9)}
    return Result(cell=cell, status="done", metric="auc", scores=scores, provenance=origin)


def means(results: list[Result]) -> dict[str, float]:
    board = leaderboard.build_leaderboard(results)
    (column,) = board.columns
    return {model: board.entries[model, column].mean for model in board.models}


def test_two_models_of_one_name_are_two_rows_in_every_format() -> None:
    """Files best.pth of two folders: evaluated on two days, neither takes the other's place."""
    board = leaderboard.build_leaderboard(
        [
            result(0.7, A, source="encoder:resnet50@one/best.pth"),
            result(0.8, B, source="encoder:resnet50@two/best.pth", created="2026-02-01"),
        ]
    )
    assert set(board.models) == {f"{LABEL}#aaaaaa", f"{LABEL}#bbbbbb"}
    (note,) = board.notes
    assert note == (
        f"{LABEL} names 2 models: #aaaaaa is encoder:resnet50@one/best.pth, "
        "#bbbbbb is encoder:resnet50@two/best.pth."
    )
    for form, write in leaderboard_formats.TEXT_FORMATS.items():
        text = write(board)
        assert text.count("aaaaaa") >= 1, form
        assert text.count("bbbbbb") >= 1, form


def test_seeds_of_one_label_stay_one_row_and_a_retrained_seed_is_another_model() -> None:
    seeds = [result(0.6, A, label="g2d", seed=0), result(0.8, B, label="g2d", seed=1)]
    assert means(seeds) == {"g2d": pytest.approx(0.7)}
    again = result(0.1, "c" * 64, label="g2d", seed=0)
    assert means([*seeds, again]) == {
        "g2d": pytest.approx(0.8),
        "g2d#aaaaaa": pytest.approx(0.6),
        "g2d#cccccc": pytest.approx(0.1),
    }


def test_one_model_with_two_names_is_reported() -> None:
    board = leaderboard.build_leaderboard([result(0.7, A), result(0.7, A, label="copy")])
    assert board.notes == (f"{LABEL} and copy have the same weights.",)
    assert set(board.models) == {LABEL, "copy"}


def gate(before: list[Result], now: list[Result]) -> list[regression_gate.Change]:
    return regression_gate.compare(stored(*before), stored(*now), {"": 0.01})


def test_the_gate_pairs_models_of_one_name_by_their_weights() -> None:
    changes = gate([result(0.7, A), result(0.5, B)], [result(0.5, B), result(0.2, A)])
    assert {(change.model, change.verdict) for change in changes} == {
        (f"{LABEL}#aaaaaa", "fell"),
        (f"{LABEL}#bbbbbb", "same"),
    }
    assert "#aaaaaa cls:g2d" in junit(changes)


def test_the_gate_still_compares_a_model_with_its_retrained_version() -> None:
    (change,) = gate([result(0.7, A)], [result(0.7, B)])
    assert (change.model, change.verdict) == (LABEL, "same")


@pytest.mark.parametrize(
    ("before", "now"), [([A], [A, B]), ([A, B], [A]), ([A, B], [B, "c"]), ([A, B], ["c"])]
)
def test_the_gate_does_not_guess_which_model_is_meant(before: list[str], now: list[str]) -> None:
    (change,) = gate(*([result(0.7, weights) for weights in part] for part in (before, now)))
    assert change.verdict == "incomparable"
    assert "in the baseline and" in change.reason


def test_several_models_that_are_all_new_or_all_missing_are_listed() -> None:
    two = [result(0.7, A), result(0.5, B)]
    other = result(0.5, "c", label="other")
    for before, now, verdict in (
        ([other], [other, *two], "new"),
        ([other, *two], [other], "missing"),
    ):
        changes = gate(before, now)
        assert [c.verdict for c in changes if c.model != "other"] == [verdict] * 2


def test_equal_names_are_known_before_a_model_is_loaded() -> None:
    def asked(*texts: str) -> list[str]:
        return same_names([ModelReference(text) for text in texts])

    assert asked("encoder:vit@a/best.pth", "encoder:vit@b/best.pth") == ["encoder:vit@best.pth"]
    assert asked("g2d:/x/one.pth", "g2d:two.pth", "encoder:vit@a/b.pth", "encoder:r@c/b.pth") == []
    assert asked("open_clip:a/m", "open_clip:b/m", "hf_clip:b/m") == ["open_clip:m"]


@pytest.mark.parametrize(
    ("seed", "wanted"),
    [(None, "seed 2"), (2, "seed 2"), (1, "pre-training seed 1, seed 2")],
)
def test_a_printed_cell_says_both_of_its_seeds_where_they_differ(
    seed: int | None, wanted: str
) -> None:
    assert model_names.describe_seeds(result(0.5, A, seed=seed, head=2).cell) == wanted
