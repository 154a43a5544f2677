"""Suites: the files that come with g2dbench, a user's own, and what is skipped."""

from dataclasses import replace
from pathlib import Path

import pytest

from g2dbench.cards import TaskCard
from g2dbench.errors import Misuse
from g2dbench.evaluation.planning import estimate
from g2dbench.evaluation.planning.suite import read_suite, suite_cells, suite_names
from g2dbench.evaluation.planning.timings import Timings
from g2dbench.evaluation.sweep.grid import Grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.system.overrides import join_name
from g2dbench.task import protocol_of

OWN = """
summary = "Two tasks."
[[rows]]
title = "Probe"
task = "cls"
protocol = "g2d"
data = ["synthetic:120", "rsna"]
fractions = [0.5, 1]
[[rows]]
title = "Zero-shot"
task = "zeroshot"
protocol = "g2d"
data = ["synthetic:120"]
"""


def template(store: Path) -> Grid:
    return Grid(models=["random-init"], datasets=(), tasks=(), store=store, size=64)


@pytest.mark.parametrize("name", suite_names())
def test_every_row_names_a_task_and_a_protocol_that_exist(name: str) -> None:
    cards = {card.name: card for card in Registry().cards(TaskCard)}
    for row in read_suite(name).rows:
        assert row.protocol in cards[row.task].protocols
        task = Registry().find(TaskCard, row.task).load()
        protocol_of(task, join_name(row.protocol, row.settings))  # Misuse for an unknown setting


def test_own_suite_and_what_is_not_prepared(tmp_path: Path, small_store: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    suite = read_suite(str(path))
    assert suite.name == "mine"
    bench = Workbench(Registry())
    cells, skipped = suite_cells(suite, template(small_store), bench)
    found = [(cell.title, cell.spec.task, cell.spec.fraction) for cell in cells]
    assert found == [("Probe", "cls", 0.5), ("Probe", "cls", 1.0), ("Zero-shot", "zeroshot", 0.0)]
    assert [(row.title, row.data) for row in skipped] == [("Probe", "rsna")]
    assert "g2dbench data prepare rsna" in skipped[0].reason
    told = replace(template(small_store), changes=["fit.epochs=3"])
    path.write_text(
        OWN.replace('protocol = "g2d"\n', 'protocol = "g2d"\nsettings = ["fit.lr=1e-3"]\n', 1)
    )
    changed, _ = suite_cells(read_suite(str(path)), told, bench, tasks=["cls"])
    assert {cell.spec.protocol for cell in changed} == {"g2d+epochs=3+lr=0.001"}
    only, _ = suite_cells(suite, template(small_store), bench, tasks=["zeroshot"])
    assert [cell.spec.task for cell in only] == ["zeroshot"]
    with pytest.raises(Misuse, match="task of the suite mine"):
        suite_cells(suite, template(small_store), bench, tasks=["seg"])
    costs = estimate.estimate([cell.spec for cell in cells], bench, Timings([]))
    assert [(cost.done, cost.seconds) for cost in costs] == [(False, None)] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = 3", "is not a suite: summary is missing; rows = 3 must be a list"),
        ("summary = ", "cannot be read"),
        (
            OWN.replace("0.5", "2.0"),
            r"entry 1 of fractions in entry \d of rows = 2.0 must be at most 1",
        ),
        (
            OWN.replace('task = "cls"', 'tusk = "cls"'),
            "no field of a row 'tusk': did you mean 'task'",
        ),
        ("a = " + "[" * 5000, "cannot be read"),
    ],
)
def test_broken_suites_are_sentences_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(Misuse, match=message) as error:
        read_suite(str(path))
    assert str(path) in str(error.value)


def test_unknown_suite_names_the_known_ones() -> None:
    with pytest.raises(Misuse, match=r"no suite 'papr'.*frozen, paper"):
        read_suite("papr")
