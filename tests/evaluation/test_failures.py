"""A cell that fails, or whose model cannot be loaded, does not stop others; it names the line."""

from pathlib import Path

import pytest
import torch
from support import plugins

from g2dbench.evaluation.failure import TRACEBACK_FILE
from g2dbench.evaluation.sweep import grid
from g2dbench.evaluation.workbench import Workbench
from g2dbench.registry import Registry
from g2dbench.system.machine import Machine

CPU = Machine(device=torch.device("cpu"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return plugins.write(tmp_path)


def run(files: tuple[Path, ...], store: Path, out: Path, *models: str) -> list[grid.Outcome]:
    requested = grid.Grid(
        models=models, datasets=["synthetic:120"], tasks=["glow"], limit=3, store=store, size=64,
        plugins=files,
    )  # fmt: skip
    bench = Workbench(Registry(files))
    return list(grid.run(requested.cells(bench), bench, CPU, out))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('raise KeyError("grid")', "KeyError: 'grid'"),
        ("assert images.mean() > 1e9, 'too\\n dark'", "AssertionError: too dark"),
        ("return [None]", "AttributeError"),
        ("return torch.zeros(3) @ images", "NameError"),
    ],
)
def test_any_exception_of_a_plugin_fails_only_its_cell(
    files: tuple[Path, Path], small_store: Path, tmp_path: Path, line: str, message: str
) -> None:
    plugins.edit(files[0], '"""The map."""', line)
    failed, done = run(files, small_store, tmp_path / "r", "lamp", "random-init")
    assert (failed.result.status, done.result.status) == ("failed", "done")
    reason = failed.result.reason or ""
    assert message in reason
    assert "\n" not in reason
    assert f"{files[0]}, line " in reason
    assert failed.folder is not None
    assert "Traceback" in (failed.folder / TRACEBACK_FILE).read_text()


def test_a_model_that_cannot_be_loaded_fails_only_its_cells(
    files: tuple[Path, Path], small_store: Path, tmp_path: Path
) -> None:
    plugins.edit(files[0], "    return Lamp()", "    return {}[source]")
    failed, done = run(files, small_store, tmp_path / "r", "lamp", "random-init")
    assert (failed.result.status, failed.folder) == ("failed", None)
    assert f"{files[0]}, line " in (failed.result.reason or "")
    assert "the model cannot be loaded: KeyError: None" in (failed.result.reason or "")
    assert done.result.status == "done"


def test_a_task_without_its_main_score_has_failed(
    files: tuple[Path, Path], small_store: Path, tmp_path: Path
) -> None:
    plugins.edit(files[1], 'return {"glow": ', 'return {"glov": ')
    (failed,) = run(files, small_store, tmp_path / "r", "lamp")
    assert failed.result.status == "failed"
    assert "returned no score 'glow'" in (failed.result.reason or "")
    assert "it returned: glov" in (failed.result.reason or "")
