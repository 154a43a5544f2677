"""The shape of the project: exported names, who may import whom, how long a file may be."""

import ast
from pathlib import Path

import pytest

import g2dbench

EXPORTED = {
    "BadCheckpoint", "BadData", "Batch", "Box", "Dataset", "DatasetCard", "G2DBenchError",
    "Grounding", "Identity", "Method", "MethodCard", "Misuse", "Model", "ModelCard", "Preprocess",
    "Record", "Run", "Sample", "Score", "TaskCard", "Unsupported", "capabilities",
}  # fmt: skip


def sources(project: Path, *folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((project / folder).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_the_exported_names_are_pinned() -> None:
    assert set(g2dbench.__all__) == EXPORTED
    assert all(getattr(g2dbench, name) is not None for name in EXPORTED)
    with pytest.raises(AttributeError):
        g2dbench.nothing  # noqa: B018


def test_the_engine_and_the_tests_reach_plugins_through_the_registry_only(project: Path) -> None:
    for file in sources(project, "g2dbench"):
        plugins = {
            n for n in imported(file) if n.startswith(("g2dbench.baselines", "g2dbench.tasks"))
        }
        assert not plugins, f"{file} imports {plugins}"


def test_plugins_share_code_through_the_engine_only(project: Path) -> None:
    for file in sources(project, "baselines", "tasks"):
        others = {
            n for n in imported(file) if n.startswith(("g2dbench.baselines", "g2dbench.tasks"))
        }
        assert not others, f"{file} imports {others}"


def test_results_never_read_models_and_leaderboards_never_read_predictions(project: Path) -> None:
    pure = (
        "reporting/leaderboard.py",
        "reporting/regression_gate.py",
        "reporting/leaderboard_formats.py",
        "result.py",
    )
    for name in pure:
        heavy = {
            n
            for n in imported(project / "g2dbench" / name)
            if n.split(".")[0] in ("torch", "pandas")
        }
        assert not heavy, f"{name} imports {heavy}"


def test_no_file_passes_300_lines(project: Path) -> None:
    files = sources(project, "g2dbench", "baselines", "tasks")
    long = {str(f): n for f in files if (n := len(f.read_text().splitlines())) > 300}
    assert not long
