"""The project gates itself: the fixed suite against the committed baseline, and a planted fault."""

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
TOLERANCES = ("--tolerance", "0.05")
"""Wider than rounding: two epochs amplify the last bits in which processors differ."""


pytestmark = pytest.mark.timeout(1200)  # minutes where other work shares the cores


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with today's results of the suite."""
    folder = tmp_path_factory.mktemp("gate")
    suite(folder / "results", folder)
    return folder


def suite(out: Path, work: Path) -> None:
    runpy.run_path(str(SUITE))["run"](out, work / "store", work)


def regress(before: Path, now: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["regress", "--baseline", str(before), str(now), *words])
    return done.exit_code, done.output


def test_today_scores_as_well_as_the_committed_baseline(work: Path) -> None:
    code, text = regress(BASELINE, work / "results", *TOLERANCES)
    assert code == 0, text


def test_an_unchanged_rerun_scores_the_same_to_the_last_bit(work: Path) -> None:
    suite(work / "again", work)
    code, text = regress(work / "results", work / "again", "--tolerance", "0")
    assert code == 0, text
    assert "0 rose, 0 fell" in text


def test_a_planted_broken_mask_closes_the_gate(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = InputGeometry.mask_to_input

    def upside_down(view: InputGeometry, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.ascontiguousarray(whole(view, mask)[::-1])

    monkeypatch.setattr(InputGeometry, "mask_to_input", upside_down)
    broken = work / "broken"
    shutil.copytree(work / "results", broken)
    shutil.rmtree(broken / "seg")
    suite(broken, work)
    code, text = regress(BASELINE, broken, *TOLERANCES)
    assert code == 1, text
    assert "fell" in text
