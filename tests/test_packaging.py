"""What is installed: every package and file of the engine, from dependencies with tested bounds."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

FOLDERS = {"g2dbench": "g2dbench", "g2dbench.baselines": "baselines", "g2dbench.tasks": "tasks"}
"""Where the sources of a package lie; those within it are in folders of their names."""


@pytest.fixture(scope="module")
def pyproject(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


def sources(project: Path) -> dict[str, Path]:
    """Path in a wheel -> file of the checkout: modules and data."""
    found: dict[str, Path] = {}
    for package, folder in FOLDERS.items():
        for file in (project / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                inner = file.relative_to(project / folder).as_posix()
                found[f"{package.replace('.', '/')}/{inner}"] = file
    return found


def test_the_list_of_packages_holds_every_folder_with_modules(
    project: Path, pyproject: dict[str, Any]
) -> None:
    listed = pyproject["tool"]["setuptools"]["packages"]
    modules = [Path(name) for name in sources(project) if name.endswith(".py")]
    assert listed == sorted({".".join(module.parent.parts) for module in modules})
    assert pyproject["tool"]["setuptools"]["package-dir"] == FOLDERS


def test_every_dependency_has_a_lower_bound(pyproject: dict[str, Any]) -> None:
    """Without one, the oldest release of all would be the lowest to test."""
    extras = pyproject["project"]["optional-dependencies"].values()
    wanted = [*pyproject["project"]["dependencies"], *(line for part in extras for line in part)]
    bounds: dict[str, set[str]] = {}
    for requirement in map(Requirement, wanted):
        if requirement.name != "g2dbench":
            bounds.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert all(len(bound) == 1 for bound in bounds.values()), "one package, two bounds"
    assert not [name for name, bound in bounds.items() if not min(bound).startswith(">=")]


def test_a_wheel_holds_every_module_and_data_file(project: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS.values():
        shutil.copytree(project / folder, checkout / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, checkout)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    made = subprocess.run([*command, checkout], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if "-info/" not in name}
    assert packed == {name: file.read_bytes() for name, file in sources(project).items()}
