"""The regression gate on the project: the fixed suite against its baseline, and a planted fault."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.preprocess import InputGeometry

SUITE = Path(__file__).with_name("suite.py")
BASELINE = SUITE.parent / "baseline"
PROCESSORS = runpy.run_path(str(SUITE.with_name("processors.py")))
TOLERANCES = ("--tolerance", str(PROCESSORS["TOLERANCE"]))
"""Wider than the band of the scores on several processors, which `make gate-processors` prints."""


pytestmark = [
    pytest.mark.gate,
    pytest.mark.timeout(1200),
]  # takes minutes if other processes use the cores


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with new results of the suite."""
    folder = tmp_path_factory.mktemp("gate")
    suite(folder / "results", folder)
    return folder


def suite(out: Path, work: Path) -> None:
    runpy.run_path(str(SUITE))["run"](out, work / "store", work)


def regress(before: Path, now: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["regress", "--baseline", str(before), str(now), *words])
    return done.exit_code, done.output


def test_new_scores_are_as_high_as_the_committed_baseline(work: Path) -> None:
    code, text = regress(BASELINE, work / "results", *TOLERANCES)
    assert code == 0, text


def test_cells_without_a_trained_network_score_the_same_on_every_processor(work: Path) -> None:
    baseline, now = (PROCESSORS["scores"](folder) for folder in (BASELINE, work / "results"))
    untrained = [cell for cell in baseline if PROCESSORS["tolerance"](cell) < 0.05]
    assert len(untrained) == 3
    for cell in untrained:
        assert now[cell] == pytest.approx(baseline[cell], abs=PROCESSORS["UNTRAINED"]), cell


def test_the_band_is_printed_and_a_score_outside_its_tolerance_fails_the_gate() -> None:
    baseline = {"cls random-init auc": 0.5, "seg random-init dice": 0.1}
    one, other = {**baseline, "seg random-init dice": 0.13}, {**baseline}
    lines, left = PROCESSORS["compare"](baseline, {"one": one, "other": other})
    assert [line.split()[-1] for line in lines] == ["0.0000", "0.0300"]
    assert left == []
    for cell, value in (("cls random-init auc", 0.49), ("seg random-init dice", float("nan"))):
        _, left = PROCESSORS["compare"](baseline, {"one": {**baseline, cell: value}})
        assert [line.split(":")[0] for line in left] == [cell]


def copied(work: Path, name: str, without: str) -> Path:
    """A copy of the results less some folders: the suite makes only those anew."""
    copy = work / name
    shutil.copytree(work / "results", copy)
    removed = list(copy.glob(without))
    assert removed
    for folder in removed:
        shutil.rmtree(folder)
    return copy


def test_an_unchanged_rerun_scores_the_same_to_the_last_bit(work: Path) -> None:
    """All cells but one: a network for segmentation is fitted again for one model of two."""
    again = copied(work, "again", "[!s]*/*/*")
    shutil.rmtree(next(again.glob("seg/*/g2d-tiny*")))
    before = {path: path.stat().st_mtime_ns for path in again.rglob("result.json")}
    assert len(before) == 1
    suite(again, work)
    kept = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    assert len(set(again.rglob("result.json")) - kept) == 7
    code, text = regress(work / "results", again, "--tolerance", "0")
    assert code == 0, text
    assert " fell" not in text


def test_a_planted_broken_mask_fails_the_gate(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = InputGeometry.mask_to_input

    def upside_down(view: InputGeometry, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.ascontiguousarray(whole(view, mask)[::-1])

    monkeypatch.setattr(InputGeometry, "mask_to_input", upside_down)
    broken = copied(work, "broken", "seg/*/random-init")
    suite(broken, work)
    code, text = regress(BASELINE, broken, *TOLERANCES)
    assert code == 1, text
    assert "fell" in text
