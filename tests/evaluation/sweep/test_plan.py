"""Plans: files, options that replace their fields, errors, repeated cells."""

from pathlib import Path

import pytest

from g2dbench.errors import Misuse
from g2dbench.evaluation.sweep.plan import MAX_BYTES, plan_cells, plan_of, read_plan
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry

PLAN = """
models = ["random-init"]
data = ["synthetic"]
seeds = [0, 1]

[[grids]]
tasks = ["cls"]
protocols = ["sweep", "knn"]
fractions = [0.1, 1]

[[grids]]
tasks = ["zeroshot", "seg"]
seeds = [0]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_plan_is_the_sum_of_its_grids_each_with_the_fields_above(tmp_path: Path) -> None:
    tables = read_plan(write(tmp_path, PLAN), {})
    cells, repeated = plan_cells(tables, Workbench(Registry()), store=tmp_path)
    assert [cell.task for cell in cells].count("cls") == 2 * 2 * 2
    assert sorted({cell.protocol for cell in cells if cell.task == "cls"}) == ["knn", "sweep"]
    assert [cell.seed for cell in cells if cell.task == "seg"] == [0]
    assert (len(cells), repeated) == (10, 0)
    # random-init has other weights for each seed: the cells of one model stand together
    assert [cell.model_seed for cell in cells] == sorted(cell.model_seed for cell in cells)


def test_options_replace_the_fields_of_every_grid(tmp_path: Path) -> None:
    tables = read_plan(write(tmp_path, PLAN), {"seeds": [7], "models": ["a", "b"]})
    assert {table.seeds for table in tables} == {(7,)}
    assert {table.models for table in tables} == {("a", "b")}


def test_labels_stay_with_their_models(tmp_path: Path) -> None:
    path = write(tmp_path, 'models = ["a", "b"]\nlabels = ["A", "B"]\n' + PLAN.split("\n", 2)[2])
    table = read_plan(path, {"models": ["b"]})[0]
    assert (table.models, table.labels) == (("b",), ("B",))
    table = read_plan(path, {"models": ["b", "a", "b"]})[0]
    assert (table.models, table.labels) == (("b", "a"), ("B", "A"))
    with pytest.raises(Misuse, match="does not name c"):
        read_plan(path, {"models": ["c", "b"]})


def test_the_last_of_fractions_and_shots_names_the_subset(tmp_path: Path) -> None:
    path = write(tmp_path, "shots = [5]\n" + PLAN)
    assert [table.shots for table in read_plan(path, {})] == [(), (5,)]
    tables = read_plan(path, {"fractions": [0.1]})
    assert {(table.shots, table.fractions) for table in tables} == {((), (0.1,))}


def test_a_cell_that_two_grids_name_is_one_cell(tmp_path: Path) -> None:
    tables = plan_of({"models": ["random-init"], "data": ["synthetic"], "tasks": ["cls"]})
    cells, repeated = plan_cells([*tables, *tables], Workbench(Registry()), store=tmp_path)
    assert (len(cells), repeated) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = ", "cannot be read as a plan"),
        ("a = " + "[" * 5000, "cannot be read as a plan"),
        (
            PLAN.replace("seeds = [0, 1]", "seeds = [-1]"),
            r"grid 1: entry 1 of seeds = -1 must be at least 0",
        ),
        (PLAN.replace("seeds = [0]", "seeds = []"), r"grid 2: seeds = \[\] is empty"),
        (
            PLAN.replace("fractions", "fraction"),
            "no field of a plan 'fraction': did you mean 'fractions'",
        ),
        (PLAN.replace('tasks = ["cls"]', ""), "grid 1: tasks is missing"),
        (PLAN.replace("[0.1, 1]", "[2]"), "entry 1 of fractions = 2 must be at most 1"),
        (
            PLAN.replace('tasks = ["cls"]', 'task = ["cls"]'),
            "did you mean 'tasks'.*tasks is missing|tasks is missing.*did you mean 'tasks'",
        ),
        (
            PLAN.replace('models = ["random-init"]', 'models = "a"'),
            r"models = 'a' must be a list: write models = \[...\]",
        ),
        (PLAN.replace("seeds = [0, 1]", "seeds = []"), r"seeds = \[\] is empty: name at least one"),
        (PLAN.replace("[0.1, 1]", "[1]\nshots = [5]"), "fractions and shots both name"),
        ("grids = 3", "two brackets"),
        (PLAN.replace("[[grids]]", "[grids]", 1).split("[[")[0], "two brackets"),
        ("#" * (MAX_BYTES + 1), "bytes: it is not a plan"),
    ],
)
def test_broken_plans_are_sentences_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(Misuse, match=message) as error:
        read_plan(path, {})
    assert str(path) in str(error.value)


def test_a_missing_plan_a_wrong_protocol_and_too_many_cells_are_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="there is no plan"):
        read_plan(tmp_path / "none.toml", {})
    bench = Workbench(Registry())
    grid = {"models": ["random-init"], "data": ["synthetic"], "tasks": ["cls"]}
    with pytest.raises(Misuse, match="protocol of cls"):
        plan_cells(plan_of({**grid, "protocols": ["swep"]}), bench)
    many = {"seeds": list(range(2000)), "subset_seeds": list(range(2000))}
    with pytest.raises(Misuse, match="4,000,000 cells"):
        plan_cells(plan_of({**grid, **many}), bench)
