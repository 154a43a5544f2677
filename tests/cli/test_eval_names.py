"""What `g2dbench eval` prints where two models go by one label."""

from pathlib import Path

import pytest

from g2dbench.cli.evaluate.cell_report import report
from g2dbench.evaluation.outcome import Outcome
from g2dbench.result import Cell, Provenance, Result, Score

LABEL = "encoder:vit@best.pth"


def outcome(weights: str, folder: str) -> Outcome:
    cell = Cell(model=LABEL, task="cls", data="rsna", protocol="g2d", fraction=1)
    origin = Provenance(
        version="0", weights=weights, source=f"encoder:vit@{folder}/best.pth", data="d", subset="s"
    )
    scores = {"auc": Score(value=0.5, low=0.4, high=0.6, n=9)}
    result = Result(cell=cell, status="done", metric="auc", scores=scores, provenance=origin)
    return Outcome(result, Path("results"), reused=False)


@pytest.mark.parametrize("shared", [[], [LABEL]])
def test_the_lines_of_two_models_of_one_label_differ(
    shared: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Foreseen, both carry their digest; else the second does, and a closing line tells both."""
    monkeypatch.setenv("COLUMNS", "200")
    report([outcome("a" * 64, "one"), outcome("b" * 64, "two")], Path("results"), shared)
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{LABEL}#aaaaaa " if shared else f"{LABEL} cls")
    assert second.startswith(f"{LABEL}#bbbbbb cls:g2d rsna 100% seed 0")
    told = " ".join(rest)
    assert "#aaaaaa is encoder:vit@one/best.pth, #bbbbbb is encoder:vit@two/best.pth" in told
