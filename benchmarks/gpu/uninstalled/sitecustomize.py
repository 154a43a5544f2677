"""Lets Python find g2dbench.baselines and g2dbench.tasks in a checkout that is not installed.

`make gpu` puts this folder on PYTHONPATH, for machines on which nothing can be installed; a
package that is installed is found before. The modules of benchmarks/ are found last, since some
have the names of packages.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
FOLDERS = {
    "g2dbench": PROJECT / "g2dbench",
    "g2dbench.baselines": PROJECT / "baselines",
    "g2dbench.tasks": PROJECT / "tasks",
}


class CheckoutFinder:
    """Finds the packages of the checkout that no other finder knows."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        folder = FOLDERS.get(name)
        if folder is None:
            return None
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


sys.meta_path.append(CheckoutFinder)  # type: ignore[arg-type]
sys.path.append(str(PROJECT / "benchmarks"))
