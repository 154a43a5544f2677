"""`compare A B`: values by hand, corrections against SciPy, refusals, formats."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from support.mask_cells import dice, mask_cell
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import BadResult, Misuse
from g2dbench.metrics.bootstrap import holm
from g2dbench.registry import Registry
from g2dbench.reporting import comparison_formats
from g2dbench.reporting.model_comparison import ModelComparison, compare_models
from g2dbench.reporting.stored_results import read_results

ONE, OTHER = [8, 4, 2, 1, 6, 7], [4, 4, 1, 1, 5, 3]


def compared(folder: Path, **options: float) -> ModelComparison:
    return compare_models("a", "b", read_results(folder)[0], Registry(), None, **options)


def test_one_cell_by_hand(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, ONE)
    mask_cell(tmp_path, "b", 0, OTHER)
    (found,) = compared(tmp_path).cells
    values = np.array([dice(n) for n in ONE]) - [dice(n) for n in OTHER]
    assert found.difference.value == pytest.approx(values.mean())
    assert found.first - found.second == pytest.approx(values.mean())
    assert found.difference.error == pytest.approx(stats.sem(values))
    # 4 of 6 patients differ, all upwards: 2 of the 16 patterns of signs are as extreme
    assert found.difference.p_value == pytest.approx(2 / 16)
    assert found.verdict == "open"


def test_p_values_are_corrected_over_the_cells(tmp_path: Path) -> None:
    for k, data in enumerate("uvwx"):
        mask_cell(tmp_path, "a", 0, [8] * (4 + 2 * k) + [4] * 4, data=data)
        mask_cell(tmp_path, "b", 0, [7, 6] * (2 + k) + [3, 5, 4, 4], data=data)
    cells = compared(tmp_path).cells
    p = [each.difference.p_value for each in cells]
    assert [each.p_holm for each in cells] == pytest.approx(list(holm(p)))
    assert [each.p_fdr for each in cells] == pytest.approx(list(stats.false_discovery_control(p)))


def test_published_weights_are_paired_with_every_pre_training_seed(tmp_path: Path) -> None:
    for seed in range(3):
        mask_cell(tmp_path, "a", seed, [8, 4, 2, seed], seed=0)
    mask_cell(tmp_path, "b", 0, [4, 4, 1, 1], model_seed=None)
    (found,) = compared(tmp_path).cells
    assert (found.pairs, found.unpaired) == (3, 0)
    assert found.difference.test == "t over patients and seeds"


def test_runs_without_a_partner_are_counted(tmp_path: Path) -> None:
    for seed in range(2):
        mask_cell(tmp_path, "a", seed, ONE)
    mask_cell(tmp_path, "b", 0, OTHER)
    found = compared(tmp_path)
    assert (found.cells[0].pairs, found.cells[0].unpaired) == (1, 1)
    assert "1 run without a partner" in " ".join(comparison_formats.legend(found))


def test_equivalence_needs_a_margin_that_the_patients_can_show(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, [8, 4] * 20 + [2])
    mask_cell(tmp_path, "b", 0, [8, 4] * 20 + [1])
    assert compared(tmp_path).cells[0].verdict == "open"
    assert compared(tmp_path, margin=0.05).cells[0].verdict == "equivalent"
    assert compared(tmp_path, margin=0.0001).cells[0].verdict == "open"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subset": "other"}, "different subsets of the training patients"),
        ({"data": "toy", "config": {"protocol": {"lr": 1}}}, "other protocol settings: lr"),
        ({"seed": 5}, "no run with the same seeds"),
        ({"fraction": 0.1}, "has no result"),
        ({"predictions": "0" * 64}, "others than its scores were computed from"),
    ],
)
def test_what_is_not_comparable_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    mask_cell(tmp_path, "a", 0, ONE, config={"protocol": {"lr": 2}})
    mask_cell(tmp_path, "b", 0, OTHER, **changes)
    with pytest.raises(BadResult, match=words):
        compared(tmp_path)
    for name in "ab":  # beside a cell that can be compared it is listed
        mask_cell(tmp_path, name, 0, ONE, data="good")
    found = compared(tmp_path)
    assert len(found.cells) == 1
    assert words in " ".join(comparison_formats.legend(found))


def test_other_images_and_unknown_names_are_refused(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, ONE)
    mask_cell(tmp_path, "b", 0, OTHER[:-1])
    with pytest.raises(BadResult, match="different images"):
        compared(tmp_path)
    with pytest.raises(Misuse, match="no model"):
        compare_models("a", "c", read_results(tmp_path)[0], Registry())
    with pytest.raises(Misuse, match="twice"):
        compare_models("a", "a", read_results(tmp_path)[0], Registry())


def test_every_format_has_the_numbers_and_the_table_fits_80_columns(tmp_path: Path) -> None:
    for data in ("synthetic-rsna", "=cmd|' /C calc'!A0"):
        mask_cell(tmp_path, "a", 0, ONE, data=data)
        mask_cell(tmp_path, "b", 0, OTHER, data=data)
    found = compared(tmp_path, margin=0.02)
    console = Console(width=80, record=True, file=io.StringIO())
    comparison_formats.show(found, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for number in ("+16.4", ".125", "TOST"):
        assert number in text, text
    rows = list(csv.DictReader(io.StringIO(comparison_formats.to_csv(found))))
    assert rows[0]["data"].startswith("'=")
    assert json.loads(comparison_formats.to_json(found))["rows"][0]["p"] == 0.125
    assert "| seg:small synthetic-rsna 50% |" in comparison_formats.to_markdown(found)


@pytest.mark.parametrize("name", ["[/x]", "\x1b[31m", "<b>", "a|b", "[x](y)"])
def test_strangers_text_is_text(tmp_path: Path, name: str) -> None:
    mask_cell(tmp_path, "a", 0, ONE, data=name)
    mask_cell(tmp_path, "b", 0, OTHER, data=name)
    mask_cell(tmp_path, "a", 0, ONE, data=f"only {name}")
    found = compared(tmp_path)
    console = Console(width=200, record=True, file=io.StringIO())
    comparison_formats.show(found, console)
    for text in (console.export_text(), comparison_formats.to_markdown(found)):
        assert "\x1b" not in text
    assert "<b>" not in comparison_formats.to_markdown(found)
    assert "[x](" not in comparison_formats.to_markdown(found)


def test_the_command(tmp_path: Path) -> None:
    mask_cell(tmp_path, "a", 0, ONE)
    mask_cell(tmp_path, "b", 0, OTHER)
    run = CliRunner().invoke
    assert "A-B" in run(app, ["compare", "a", "b", str(tmp_path)]).stdout
    assert run(app, ["compare", "a", "nobody", str(tmp_path)]).exit_code == 2
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text("{")
    assert run(app, ["compare", "a", "b", str(tmp_path), "--format", "csv"]).exit_code == 1
