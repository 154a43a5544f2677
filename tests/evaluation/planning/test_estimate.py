"""Expected costs, from earlier results made by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.planning.estimate import estimate, total
from g2dbench.evaluation.planning.timings import Earlier, Timings
from g2dbench.result import Cell, Provenance, Result

TRAIN, VALID, TEST = 100, 20, 30


class Bench:
    """A data set of 150 images; the model random-init depends on its seed."""

    def dataset(self, spec: CellSpec) -> Any:
        splits = ["train"] * TRAIN + ["valid"] * VALID + ["test"] * TEST
        return SimpleNamespace(table=pd.DataFrame({"split": splits}), fingerprint="data")

    def reference(self, text: str) -> Any:
        return SimpleNamespace(per_seed=text == "random-init")


def spec(model: str = "a", fraction: float = 1.0, seed: int = 0, **more: Any) -> CellSpec:
    named = {"task": "cls", "data": "d", "protocol": "p", **more}
    return CellSpec(model=model, fraction=fraction, seed=seed, store=Path(), **named)


def earlier(
    model: str = "a", fraction: float = 1.0, seconds: float = 10.0, images: int = 150, **more: Any
) -> Earlier:
    """A result whose encoding took 0.02 s per image and whose model was loaded in 2 s."""
    cell = Cell(
        model=more.pop("label", model), task="cls", data="d", protocol="p", fraction=fraction,
        **more,
    )  # fmt: skip
    cost = {"loading": 2.0, "images": images, "cached": 150 - images, "seconds": images * 0.02}
    origin = Provenance(
        version="0", weights=f"weights of {model}", data="data", subset="s", source=model,
        config={"cost": cost}, seconds=seconds, peak_memory_mib=500.0,
    )  # fmt: skip
    counts = {"train": int(TRAIN * fraction), "valid": VALID, "test": TEST}
    result = Result(cell=cell, status="done", metric="auc", counts=counts, provenance=origin)
    return Earlier(result, 1000)


def test_a_cell_costs_what_the_same_cell_cost_and_only_the_first_of_a_group_encodes() -> None:
    timings = Timings([], [earlier()])
    first, second = estimate([spec(seed=1), spec(seed=2)], Bench(), timings)
    assert (first.done, second.done) == (False, False)
    assert first.seconds == pytest.approx(10.0)  # 7 s and 150 images in 3 s
    assert second.seconds == pytest.approx(7.0)
    (cached,) = estimate([spec()], Bench(), timings, {("weights of a", "data")})
    assert cached.seconds == pytest.approx(7.0)
    assert cached.cost
    assert (cached.cost.disk, cached.cost.memory, cached.cost.loading) == (1000, 500.0, 2.0)


def test_the_nearest_subset_counts_and_time_grows_with_the_images() -> None:
    timings = Timings([], [earlier(fraction=0.5, seconds=4), earlier(seconds=20)])
    (found,) = estimate([spec(fraction=0.6)], Bench(), timings)
    assert found.cost
    assert found.cost.seconds == pytest.approx((4 - 3) * (60 + 50) / (50 + 50))
    (unknown,) = estimate([spec(task="seg")], Bench(), timings)
    assert unknown.cost is None
    assert unknown.seconds is None


def test_what_is_on_disk_depends_on_the_whole_key() -> None:
    timings = Timings([earlier(seed=3)], [earlier(seed=4)])
    bench = Bench()

    def done(*cells: CellSpec, rerun: bool = False) -> list[bool]:
        return [each.done for each in estimate(cells, bench, timings, rerun=rerun)]

    assert done(spec(seed=3), spec(seed=4), spec(seed=3, fraction=0.5)) == [True, False, False]
    assert done(spec("b", seed=3), spec(seed=3, limit=5)) == [False, False]
    assert done(spec(seed=3, label="a"), spec(seed=3, label="mine")) == [True, False]
    assert done(spec(seed=3), rerun=True) == [False]
    timings = Timings([earlier("random-init", model_seed=1, fraction=0.0)])
    assert done(spec("random-init"), spec("random-init", model_seed=1)) == [False, True]


def test_the_total_is_that_of_a_schedule_by_hand() -> None:
    """Two models on two workers: start 1, load 2, then 10 + 7 s each for one of them."""
    timings = Timings([], [earlier("a"), earlier("b")])
    cells = [spec("a", seed=0), spec("a", seed=1), spec("b", seed=0), spec(task="seg")]
    estimates = estimate(cells, Bench(), timings)
    found = total(estimates, slots=2, start=1.0)
    assert found.seconds == pytest.approx(1 + 2 + 10 + 7)
    assert (found.cells, found.done, found.unknown) == (4, 0, 1)
    assert (found.disk, found.memory) == (3000, 1000.0)
    assert total(estimates, slots=1, start=1.0).seconds == pytest.approx(1 + 2 + 17 + 2 + 10)
    assert total(estimates, slots=9).memory == 1500.0
    assert total([], slots=2).seconds == 0.0
