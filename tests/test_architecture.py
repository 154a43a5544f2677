"""The shape of the project: exported names, layers, sizes of files and folders, imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import g2dbench

EXPORTED = {
    "BadCheckpoint", "BadData", "Batch", "Box", "Dataset", "DatasetCard", "G2DBenchError",
    "Grounding", "Identity", "Method", "MethodCard", "Misuse", "Model", "ModelCard", "Preprocess",
    "Record", "Run", "Sample", "Score", "TaskCard", "Unsupported", "capabilities",
    "evaluate", "leaderboard", "load_results",
}  # fmt: skip

MOST_FILES, MOST_FILES_IN_ROOT, MOST_LINES = 20, 16, 300


def sources(project: Path, *folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((project / folder).rglob("*.py"))]


def module_of(file: Path, project: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = list(file.relative_to(project).with_suffix("").parts)
    if parts[0] in ("baselines", "tasks"):
        parts.insert(0, "g2dbench")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def run_time_imports(file: Path) -> Iterator[str]:
    """Modules and names that a file imports, without those for type checkers alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in typing_only:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layers(project: Path) -> list[list[str]]:
    lines = (project / "tests" / "layers.txt").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def level(name: str, order: list[list[str]]) -> int:
    """The line of the longest prefix of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for at, line in enumerate(order):
            if prefix in line:
                return at
    raise AssertionError(f"tests/layers.txt has no line for {name}")


def test_the_exported_names_are_pinned() -> None:
    assert set(g2dbench.__all__) == EXPORTED
    assert all(getattr(g2dbench, name) is not None for name in EXPORTED)
    with pytest.raises(AttributeError):
        g2dbench.nothing  # noqa: B018


def test_every_module_imports_from_its_own_layer_or_from_those_below(project: Path) -> None:
    order = layers(project)
    upward = []
    for file in [*sources(project, "g2dbench", "baselines", "tasks"), project / "cli.py"]:
        module = module_of(file, project)
        if module == "g2dbench":
            continue  # exports names for plug-ins, each on first use
        for name in run_time_imports(file):
            # `import g2dbench` reads the version alone
            if name.startswith("g2dbench.") and level(name, order) > level(module, order):
                upward.append(f"{module} imports {name}")
    assert not upward


def test_no_two_modules_import_each_other(project: Path) -> None:
    files = {module_of(f, project): f for f in sources(project, "g2dbench", "baselines", "tasks")}
    needs = {
        module: {
            found
            for name in run_time_imports(file)
            for found in (name, name.rpartition(".")[0])
            if found in files and found != module
        }
        for module, file in files.items()
        if module != "g2dbench"
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a cycle of imports: {' -> '.join([*path, module])}"
        if module not in done:
            for needed in sorted(needs.get(module, set())):
                if not module.startswith(f"{needed}."):  # a package is imported before its parts
                    visit(needed, (*path, module))
            done.add(module)

    for module in needs:
        visit(module, ())


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
        "reporting/leaderboard/leaderboard.py",
        "reporting/gate/regression_gate.py",
        "reporting/leaderboard/formats.py",
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
    long = {str(f): n for f in files if (n := len(f.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_no_folder_holds_more_files_than_one_takes_in(project: Path) -> None:
    folders = {file.parent for file in sources(project, "g2dbench", "baselines", "tasks", "tests")}
    counts = {folder: sum(f.is_file() for f in folder.iterdir()) for folder in folders}
    most = {project / "g2dbench": MOST_FILES_IN_ROOT - 1}
    full = {str(f): n for f, n in counts.items() if n > most.get(f, MOST_FILES)}
    assert not full


def test_no_test_imports_another_test(project: Path) -> None:
    for file in sources(project, "tests"):
        tests = {n for n in imported(file) if n.split(".")[-1].startswith("test_")}
        functions = {n for n in tests if n.startswith(("support.", "g2dbench."))}
        assert tests <= functions, f"{file} imports {tests - functions}"


def test_tests_lie_where_the_engine_has_the_same_folder(project: Path) -> None:
    for file in sources(project, "tests"):
        folder = file.parent.relative_to(project / "tests")
        if file.name.startswith("test_") and folder.parts and folder.parts[0] != "gate":
            places = (project / "g2dbench" / folder, project / folder)
            assert any(place.is_dir() for place in places), f"{file}: no such folder in the engine"


def test_the_docs_name_no_path_that_does_not_exist(project: Path) -> None:
    roots = "g2dbench|baselines|tasks|tests|benchmarks|docs"
    pattern = re.compile(rf"(?<![\w./-])(?<!\]\()(?:{roots})/[\w./-]*\w")
    pages = [project / "README.md", project / "CONTRIBUTING.md"]  # the CHANGELOG tells the past
    pages += [*(project / "docs").rglob("*.md"), *(project / "tests").rglob("*.md")]
    wrong = [
        f"{page.relative_to(project)}: {name}"
        for page in pages
        for name in pattern.findall(page.read_text(encoding="utf-8"))
        if not (project / name).exists()
    ]
    assert not wrong
