"""What is bold in a leaderboard: the best row of a column, and all that are not shown to be worse.

In each column, every other row is compared with the best one on the same images (the paired test of
`g2dbench compare`), and Holm's method corrects for the rows of the column. Rows that are not
significantly worse are bold like the best one: this test set does not tell them apart. Nothing is
bold without stored predictions, and where a class has fewer than ten patients.

What the tests need is imported where one is made: it takes two seconds, which a table without tests
does not need.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from g2dbench.errors import BadResult, G2DBenchError
from g2dbench.progress import Progress, quiet
from g2dbench.registry import Registry
from g2dbench.reporting.leaderboard.entries import Column
from g2dbench.reporting.leaderboard.leaderboard import Leaderboard
from g2dbench.reporting.leaderboard.ranks import by_column
from g2dbench.reporting.stored_results import StoredResult
from g2dbench.system.counts import counted

MAX_TESTS = 60
"""Most paired tests of a table unless they are asked for; each takes up to a second."""

BOLD = (
    "Bold: the best of a column, and all that are not significantly worse (paired test over "
    "patients, Holm within the column, 5 %)."
)

_Runs = Mapping[tuple[str, Column], Sequence[StoredResult]]


@dataclass
class _Tested:
    """Bold entries of all columns, and why columns or rows have none."""

    bold: set[tuple[str, Column]] = field(default_factory=set)
    few: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    untested: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def mark_best(
    board: Leaderboard,
    stored: Iterable[StoredResult],
    registry: Registry,
    max_tests: int | None = MAX_TESTS,
    progress: Progress = quiet,
) -> Leaderboard:
    """The same table with bold entries, what bold means, and notes on what could not be tested.

    stored: at least the results of the table. max_tests: with more comparisons than this, none is
    made and the notes say so; None makes all.
    """
    ranked = by_column(board.entries, board.columns)
    number = sum(max(0, len(models) - 1) for models in ranked.values())
    if max_tests is not None and number > max_tests:
        note = (
            f"Nothing is bold: it would take {counted(number, 'paired test')}; --bold always makes "
            "them."
        )
        return replace(board, notes=(*board.notes, note))
    runs, tested = runs_on_disk(board, stored), _Tested()
    for column, models in progress(list(ranked.items()), "testing"):
        if len(models) > 1:
            _test_column(column, models, board, runs, registry, tested)
    entries = {key: replace(entry, best=key in tested.bold) for key, entry in board.entries.items()}
    notes = (*board.notes, *_notes(tested))
    return replace(board, entries=entries, notes=notes, bold=BOLD if tested.bold else "")


def runs_on_disk(board: Leaderboard, stored: Iterable[StoredResult]) -> _Runs:
    """Where the finished results behind each entry are stored."""
    places = {id(each.result): each for each in stored}
    return {
        key: [
            places[id(run)] for run in runs if run.status == "done" and id(run) in places
        ]
        for key, runs in board.runs.items()
    }  # fmt: skip


def _test_column(
    column: Column,
    models: Sequence[str],
    board: Leaderboard,
    runs: _Runs,
    registry: Registry,
    tested: _Tested,
) -> None:
    """Compare the best of the models, which are sorted, with each of the others."""
    from g2dbench.metrics.bootstrap import holm
    from g2dbench.reporting.model_comparison import SIGNIFICANCE, compare_runs

    best, others = models[0], models[1:]
    if board.entries[best, column].is_fragile:
        return  # the leaderboard has a note on it
    if small := _small_classes(runs[best, column]):
        tested.few[small].append(f"{column.task} on {column.data}, {column.share}")
        return
    p_values: dict[str, float] = {}
    for model in others:
        try:
            found = compare_runs(runs[best, column], runs[model, column], registry, column.metric)
        except G2DBenchError as error:
            tested.untested[_reason(error)].append(f"{model} ({column.task} on {column.data})")
            continue
        p_values[model] = found.difference.p_value
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    known = {model: p for model, p in adjusted.items() if p == p}
    if known:
        tested.bold.add((best, column))
    tested.bold |= {
        (model, column)
        for model, p in known.items()
        if p >= SIGNIFICANCE and not board.entries[model, column].is_fragile
    }


def _small_classes(runs: Sequence[StoredResult]) -> str:
    """The classes with fewer than ten test patients as text; "" if there is none."""
    from g2dbench.evaluation.cell_folder import read_predictions
    from g2dbench.reporting.class_sizes import small_classes

    path = next((path for each in runs if (path := each.predictions()) is not None), None)
    if path is None:
        return ""
    try:
        table = read_predictions(path)
        return ", ".join(small_classes(table, masks_or_boxes="height" in table.columns))
    except (G2DBenchError, ValueError, TypeError):
        return ""  # a broken table: the comparison says what is wrong with it


def _reason(error: G2DBenchError) -> str:
    """Why two rows were not compared, without the folders of this machine."""
    text = str(error)
    if isinstance(error, BadResult) and "has no predictions" in text:
        return "no stored predictions"
    return "their runs cannot be compared; `g2dbench compare` says why"


def _notes(tested: _Tested) -> list[str]:
    notes = [
        f"{_shortened(dict.fromkeys(columns))}: nothing is bold, because a class has fewer than 10 "
        f"test patients: {small}."
        for small, columns in tested.few.items()
    ]
    for reason, rows in tested.untested.items():
        notes.append(f"Not tested and so not bold, {reason}: {_shortened(rows)}.")
    return notes


def _shortened(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + rest
