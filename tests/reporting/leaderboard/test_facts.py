"""`leaderboard --columns`: facts from results, cards, predictions and prepared data; 80 columns."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from support.data.stores import make, make_root
from support.mask_cells import mask_cell
from support.reporting.results import result, stored
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import Misuse
from g2dbench.registry import Registry
from g2dbench.reporting.leaderboard import terminal
from g2dbench.reporting.leaderboard.facts import FACTS, FactSources, collect_facts, parse_facts
from g2dbench.reporting.leaderboard.formats import TEXT_FORMATS
from g2dbench.reporting.leaderboard.leaderboard import build_leaderboard
from g2dbench.result import Result, save

ALL = ",".join(FACTS)


def facts_of(found: Result, store: Path) -> dict[str, str]:
    board = build_leaderboard([found])
    sources = FactSources.of(Registry(), store, stored(found))
    (facts,) = collect_facts(board, list(FACTS), sources).values()
    return facts


def test_facts_of_a_result_of_this_version(tmp_path: Path) -> None:
    model = {"card": "chexzero", "parameters": 151_277_313, "trained_on": ["mimic_cxr"]}
    found = facts_of(
        result(
            model="mine", config={"model": model}, counts={"test": 202}, seconds=61.4,
            peak_memory_mib=812.0, version="1.2", packages={"torch": "2.6"},
            subset="s" * 64, created="2026-01-01",
        ),
        tmp_path,
    )  # fmt: skip
    assert found["n"] == "202"
    assert found["params"] == "151.3 M"
    assert found["cost"] == "61 s, 812 MiB"
    assert "public" in found["openness"]
    assert found["overlap"] == "mimic_cxr: not prepared here"
    assert (found["oracle"], found["imported"], found["positives"]) == ("no", "no", "")
    assert found["command"].startswith("g2dbench eval --model mine --task seg --data rsna")
    assert found["versions"] == "g2dbench 1.2, torch 2.6"
    assert found["split"] == "d/ssssssss"


def test_the_card_of_an_older_result_is_that_of_its_label(tmp_path: Path) -> None:
    old = facts_of(result(model="chexzero:best.pt"), tmp_path)
    assert old["openness"] == facts_of(result(model="chexzero"), tmp_path)["openness"] != ""
    assert old["params"] == ""
    assert facts_of(result(model="unknown"), tmp_path)["openness"] == ""


def test_imported_and_oracle_are_marked(tmp_path: Path) -> None:
    found = facts_of(result(details={"imported": True}, source="file.csv"), tmp_path)
    assert found["imported"] == "yes"
    assert "imported" in found["command"]
    oracle = result().model_copy(update={"metric": "oracle_dice"})
    assert facts_of(oracle, tmp_path)["oracle"] == "yes"


def test_positives_are_read_from_the_predictions(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, [8, 4, 2])
    out = CliRunner().invoke(
        app, ["leaderboard", str(tmp_path), "--format", "csv", "--columns", "positives,n"]
    )
    (row,) = csv.DictReader(io.StringIO(out.stdout))
    assert (row["positives"], row["n"]) == ("opacity 3", "3")


def test_overlap_counts_patients_of_prepared_data(tmp_path: Path) -> None:
    tested = make(make_root(tmp_path / "rsna"), tmp_path / "store")
    number = tested.table.loc[tested.table["split"] == "test", "patient"].nunique()
    model = {"card": "g2d", "parameters": 1, "trained_on": ["rsna", "nih_cxr14"]}
    found = facts_of(result(config={"model": model}), tmp_path / "store")
    assert number > 0
    assert found["overlap"] == (f"rsna: 0 of {number} test patients; nih_cxr14: not prepared here")


def test_an_unknown_column_is_refused_with_the_closest() -> None:
    assert parse_facts("n, params,n") == ("n", "params")
    with pytest.raises(Misuse, match="did you mean 'openness'"):
        parse_facts("opennes")


@pytest.mark.parametrize("form", sorted(TEXT_FORMATS))
def test_every_format_has_the_facts(tmp_path: Path, form: str) -> None:
    save(result(model="chexzero", counts={"test": 17}), tmp_path / "a")
    out = CliRunner().invoke(
        app, ["leaderboard", str(tmp_path), "--format", form, "--columns", ALL]
    )
    assert out.exit_code == 0, out.output
    assert "17" in out.stdout
    assert "weights" in out.stdout
    if form == "json":
        assert json.loads(out.stdout)["rows"][0]["imported"] == "no"


@pytest.mark.parametrize("number", [1, 7, 40])
def test_tables_and_facts_fit_80_columns_and_lose_no_digit(number: int, tmp_path: Path) -> None:
    results = [
        result(0.987, model=model, data=f"a-data-set-{k}", counts={"test": 202})
        for k in range(number)
        for model in ("short", "a-name-of-more-than-forty-characters-of-a-model@weights.pth")
    ]
    board = build_leaderboard(results)
    sources = FactSources.of(Registry(), tmp_path, stored(*results))
    facts = collect_facts(board, ["n", "cost", "split", "imported"], sources)
    console = Console(width=80, record=True, file=io.StringIO())
    terminal.show(board, console, reasons=False, facts=facts)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("98.7") == len(results)
    assert "…" not in text
    assert ("Borda" in text) == (number > 1)
