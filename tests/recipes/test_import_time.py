"""Reading recipes is fast because it imports no torch."""

import subprocess
import sys


def test_importing_the_recipes_loads_no_torch() -> None:
    code = "import sys, g2dbench.recipes.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
