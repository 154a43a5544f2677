"""The order in which workers take cells."""

import random
from pathlib import Path

import pytest

from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.sweep.order import CellQueue, group_of, model_of


def cell(model: str = "a", task: str = "cls", fraction: float = 1.0, seed: int = 0) -> CellSpec:
    return CellSpec(
        model=model, task=task, data="d", protocol="p", fraction=fraction, seed=seed, store=Path()
    )


def test_leaders_with_the_largest_subset_come_first_and_followers_wait_for_them() -> None:
    small, large, other = cell(fraction=0.1), cell(), cell(task="seg")
    queue = CellQueue([small, large, other])
    assert queue.take(None) == large
    assert queue.take(None) == other  # before the follower, whose leader still runs
    queue.ended(other)
    assert queue.take(other) == small  # better than an idle worker
    assert queue.take(None) is None
    assert not queue


def test_all_training_images_come_before_shots_of_them() -> None:
    few, many, whole = cell().model_copy(update={"shots": 4}), None, cell()
    many = few.model_copy(update={"shots": 64})
    queue = CellQueue([few, many, whole])
    assert queue.take(None) == whole
    queue.ended(whole)
    assert [queue.take(whole), queue.take(whole)] == [many, few]


def test_a_worker_keeps_its_model_and_a_new_one_takes_another_model() -> None:
    cells = [cell(model, task) for model in "ab" for task in ("cls", "seg")]
    queue = CellQueue(cells)
    first = queue.take(None)
    second = queue.take(None)
    assert {model_of(first)[0], model_of(second)[0]} == {"a", "b"}
    assert model_of(queue.take(second)) == model_of(second)
    assert model_of(queue.take(first)) == model_of(first)


def test_cells_of_the_slowest_task_come_first_once_the_times_are_known() -> None:
    cells = [cell(task=task, seed=seed) for task in ("cls", "seg", "det") for seed in range(3)]
    queue = CellQueue(cells)
    leaders = [queue.take(None) for _ in range(3)]
    assert [spec.task for spec in leaders] == ["cls", "seg", "det"]
    for leader, seconds in zip(leaders, (1.0, 30.0, 9.0), strict=True):
        queue.ended(leader, seconds)
    assert [queue.take(None).task for _ in range(6)] == ["seg", "seg", "det", "det", "cls", "cls"]


def test_a_cell_that_does_not_fit_is_left_for_later() -> None:
    big, little = cell("a"), cell("b")
    queue = CellQueue([big, little])
    assert queue.take(None, lambda spec: spec.model != "a") == little
    assert queue.take(None, lambda spec: False) is None
    assert queue.take(None) == big


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_is_taken_once_whatever_the_workers_do(seed: int) -> None:
    noise = random.Random(seed)
    cells = [
        cell(model, task, fraction, number)
        for model in "abc"
        for task in ("cls", "seg", "det")
        for fraction in (0.01, 0.1, 1.0)
        for number in range(2)
    ]
    noise.shuffle(cells)
    queue, running, taken = CellQueue(cells), [], []
    while queue or running:
        if len(running) < 4 and (spec := queue.take(noise.choice([None, *taken]))):
            running.append(spec)
            taken.append(spec)
        else:
            queue.ended(running.pop(noise.randrange(len(running))))
    assert sorted(map(str, taken)) == sorted(map(str, cells))
    first = {}
    for spec in taken:
        first.setdefault(group_of(spec), spec)
    assert {spec.fraction for spec in first.values()} == {1.0}


def test_a_large_plan_takes_no_long_time() -> None:
    cells = [
        cell(f"m{model}", f"t{task}", 1.0, seed)
        for model in range(100)
        for task in range(12)
        for seed in range(15)
    ]
    queue, last, count = CellQueue(cells), None, 0
    while (last := queue.take(last)) is not None:
        queue.ended(last, 1.0)
        count += 1
    assert count == 18_000
