"""Everything that can change a score makes a new cell; nothing else does."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import plugins

from g2dbench.evaluation import cell_identity
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.runner import run_cell
from g2dbench.evaluation.sweep import grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.result import Cell
from g2dbench.system.machine import Machine

pytestmark = pytest.mark.integration

CPU = Machine(device=torch.device("cpu"))
Evaluate = Callable[..., Outcome]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return plugins.write(tmp_path)


@pytest.fixture
def evaluate(files: tuple[Path, Path], small_store: Path, tmp_path: Path) -> Evaluate:
    """Evaluate the model's file with the task's file, as they are now."""

    def run(**changes: object) -> Outcome:
        spec = CellSpec(
            model="lamp", task="glow", data="synthetic:120", protocol="plain", limit=5,
            store=small_store, size=64, plugins=files,
        ).model_copy(update=changes)  # fmt: skip
        return run_cell(spec, Workbench.of(spec), CPU, tmp_path / "results")

    return run


def value(outcome: Outcome) -> float:
    assert outcome.result.main is not None, outcome.result.reason
    return outcome.result.main.value


def test_an_unchanged_cell_comes_from_disk(evaluate: Evaluate) -> None:
    first, again = evaluate(), evaluate()
    assert (first.reused, again.reused) == (False, True)
    assert again.result.model_dump_json() == first.result.model_dump_json()


@pytest.mark.parametrize(
    ("which", "old", "new"),
    [
        (0, "F.avg_pool2d(images, 8)", "2 * F.avg_pool2d(images, 8)"),
        (0, "mean=(0.5,)", "mean=(0.25,)"),
        (0, "std=(0.25,)", "std=(0.5,)"),
        (1, ".mean()\n        rows", ".max()\n        rows"),
        (1, "* protocol.times", "* protocol.times + 1"),
        (1, "times: float = 1.0", "times: float = 3.0"),
    ],
)
def test_an_edit_of_a_plugin_gives_a_new_score(
    evaluate: Evaluate, files: tuple[Path, Path], which: int, old: str, new: str
) -> None:
    before = evaluate()
    plugins.edit(files[which], old, new)
    after = evaluate()
    assert not after.reused
    assert value(after) != value(before)
    assert evaluate().reused


def test_a_module_in_the_plugins_folder_counts(
    evaluate: Evaluate, files: tuple[Path, Path]
) -> None:
    # a unique module name, because Python caches imported modules
    helper = files[0].with_name(f"helper_{files[0].parent.name}.py")
    helper.write_text("FACTOR = 2\n")
    imports = f"import sys\nsys.path.insert(0, {str(helper.parent)!r})\nimport {helper.stem}\n"
    plugins.edit(files[0], "def load(", f"{imports}\n\ndef load(")
    evaluate()
    assert evaluate().reused
    helper.write_text("FACTOR = 3\n")
    assert not evaluate().reused


def test_comments_and_docstrings_do_not_count(evaluate: Evaluate, files: tuple[Path, Path]) -> None:
    evaluate()
    plugins.edit(files[0], '"""The map."""', '"""The brightness of each cell."""  # in gray levels')
    assert evaluate().reused


def test_another_precision_is_another_cell(evaluate: Evaluate) -> None:
    half = evaluate(precision="bf16")
    full = evaluate()
    assert not full.reused
    assert (half.result.cell.precision, full.result.cell.precision) == ("bf16", "fp32")


def test_another_version_of_the_package_is_another_cell(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate()
    monkeypatch.setattr(cell_identity.g2dbench, "__version__", "99")
    assert not evaluate().reused


def test_the_digest_is_computed_and_not_the_one_that_the_plugin_states(evaluate: Evaluate) -> None:
    result = evaluate().result
    assert len(result.provenance.weights) == 64
    assert "claims" not in result.provenance.weights


def _run_in_process(text: str, out: str, answer: "multiprocessing.connection.Connection") -> None:
    spec = CellSpec.model_validate_json(text)
    outcome = run_cell(spec, Workbench.of(spec), CPU, Path(out))
    answer.send((outcome.folder.name if outcome.folder else "", value(outcome)))


def test_the_same_cell_in_another_process_has_the_same_folder_and_score(
    files: tuple[Path, Path], small_store: Path, tmp_path: Path
) -> None:
    spec = CellSpec(
        model="random-init", task="glow", data="synthetic:120", protocol="plain", limit=3,
        store=small_store, size=64, plugins=files,
    )  # fmt: skip
    assert CellSpec.model_validate_json(spec.model_dump_json()) == spec
    here = run_cell(spec, Workbench.of(spec), CPU, tmp_path / "here")
    mine, its = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_run_in_process, args=(spec.model_dump_json(), str(tmp_path / "there"), its)
    )
    process.start()
    assert mine.poll(120)
    assert mine.recv() == (here.folder.name, value(here))  # type: ignore[union-attr]
    process.join()


def test_cells_of_a_grid_load_each_model_once(files: tuple[Path, Path]) -> None:
    plugins.edit(files[0], "needs_weights=False", "needs_weights=True")
    cells_wanted = grid.Grid(
        models=["random-init", "lamp:x"], datasets=["a", "b"], tasks=["glow", "cls"],
        fractions=[0.1, 1.0, 0.1], seeds=[0, 1], plugins=files,
    )  # fmt: skip
    cells = cells_wanted.cells(Workbench(Registry(files)))
    models = [(spec.model, spec.model_seed) for spec in cells]
    assert list(dict.fromkeys(models)) == [("random-init", 0), ("random-init", 1), ("lamp:x", 0)]
    assert models == sorted(models, key=list(dict.fromkeys(models)).index)
    assert len(set(cells)) == len(cells)
    # glow once per model, seed and data set; cls for each fraction, for lamp also for each seed
    assert len(cells) == 3 * 2 + 2 * 2 * 2 + 2 * 2 * 2


def test_a_number_of_images_in_a_spec_is_the_number_that_is_evaluated(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    spec = CellSpec(
        model="lamp", task="glow", data="synthetic:30", protocol="plain",
        store=tmp_path / "store", size=64, plugins=files,
    )  # fmt: skip
    data = Workbench.of(spec).dataset(spec)
    assert (len(data), data.card.name) == (30, "synthetic:30")


@pytest.mark.parametrize("label", ["..", ".", ".hidden", "", "a/../../b"])
def test_no_label_leaves_its_folder_or_hides_it(label: str) -> None:
    cell = Cell(model=label, task="cls", data="..", protocol="g2d", fraction=1.0)
    place = cell_identity.folder_of(Path("results"), cell, {})
    assert len(place.parts) == 5
    assert not any(part.startswith(".") for part in place.parts)
