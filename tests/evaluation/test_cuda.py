"""A cell evaluated on a GPU has the scores of the CPU, within a band."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.gpu import CPU, GPU, MARKS

from g2dbench.evaluation.runner import run_cell
from g2dbench.evaluation.sweep.grid import Grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.system.machine import FeatureFolder, Machine

pytestmark = [*MARKS, pytest.mark.integration]

BANDS = {"cls": 0.03, "zeroshot": 0.005, "ground": 0.005}
"""Largest difference of the main score; `cls` fits a head, zero-shot tasks only round."""
HALF_BANDS = {"zeroshot": 0.05, "ground": 0.05}


def main_score(
    task: str, model: str, store: Path, out: Path, machine: Machine, precision: str = "fp32"
) -> float:
    grid = Grid(
        models=[model], datasets=["synthetic:120"], tasks=[task], store=store, size=64,
        precision=precision,
    )  # fmt: skip
    bench = Workbench(Registry())
    (spec,) = grid.cells(bench)
    result = run_cell(spec, bench, machine, out).result
    assert result.status == "done", result.reason
    return float(result.scores[result.metric].value)


@pytest.mark.parametrize("task", BANDS)
@pytest.mark.parametrize("model", ["random-init", "trained"])
def test_scores_are_those_of_the_cpu(
    task: str, model: str, small_store: Path, trained: Path, tmp_path: Path
) -> None:
    """With the feature cache the second cell on the GPU reads what the first one wrote."""
    name = str(trained) if model == "trained" else model
    gpu = Machine(device=GPU, features=FeatureFolder(tmp_path / "features"))
    right = main_score(task, name, small_store, tmp_path / "cpu", Machine(device=CPU))
    found = main_score(task, name, small_store, tmp_path / "gpu", gpu)
    cached = main_score(task, name, small_store, tmp_path / "again", gpu)
    uncached = main_score(
        task, name, small_store, tmp_path / "uncached", replace(gpu, features=None)
    )
    assert abs(found - right) < BANDS[task]
    assert abs(cached - found) < BANDS[task]
    assert abs(uncached - found) < BANDS[task]


@pytest.mark.parametrize("task", HALF_BANDS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_scores_in_half_precision_are_near(
    task: str, precision: str, small_store: Path, trained: Path, tmp_path: Path
) -> None:
    if precision == "fp16" and GPU.type == "cpu":
        pytest.skip("fp16 needs a GPU")
    machine = Machine(device=GPU)
    right = main_score(task, str(trained), small_store, tmp_path / "fp32", machine)
    found = main_score(task, str(trained), small_store, tmp_path / precision, machine, precision)
    assert abs(found - right) < HALF_BANDS[task]
