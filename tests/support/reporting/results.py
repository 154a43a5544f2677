"""Results for tests of leaderboards, comparisons and the gate."""

from pathlib import Path

from g2dbench.reporting.stored_results import StoredResult
from g2dbench.result import Cell, Provenance, Result, Score

NOWHERE = Path("no-folder")


def result(value: float = 0.5, *, seed: int = 0, model: str = "g2d", **changes: object) -> Result:
    cell = {
        "model": model, "task": "seg", "data": "rsna", "protocol": "g2d",
        "fraction": 0.01, "seed": seed,
    }  # fmt: skip
    cell |= {k: changes.pop(k) for k in list(changes) if k in Cell.model_fields}
    origin = {
        "version": "0.1",
        "weights": model,
        "data": "d",
        "subset": "s",
        "created": "2026-01-01",
    }
    origin |= {k: changes.pop(k) for k in list(changes) if k in Provenance.model_fields}
    fields = {
        "status": "done",
        "scores": {"dice": Score(value=value, low=value - 0.1, high=value + 0.1, n=9)},
    }
    return Result(
        cell=Cell(**cell), metric="dice", provenance=Provenance(**origin), **(fields | changes)
    )


def stored(*results: Result) -> list[StoredResult]:
    """The results as if they were read from a folder without predictions."""
    return [StoredResult(each, NOWHERE) for each in results]
