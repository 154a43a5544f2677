"""Kills, concurrent writers, full disks and strangers' files: a table of what goes wrong.

    python benchmarks/stress [quick] [--only kills,writers,limits,mutations] [--seed 0]

`make stress` takes about 25 minutes on two idle cores, `make stress STRESS=quick` about three. The
exit code is 1 if a cell of the last five columns is not 0.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.pop("COLUMNS", None)

import kills
import limits
import mutations
import torch
import writers
from children import import_all
from material import COUNT, RECIPE, SIZE, make, write_root
from table import Table

PARTS = ("kills", "writers", "limits", "mutations")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("amount", nargs="?", default="full", choices=("full", "quick", "smoke"))
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--tries", type=int, help="of each row, instead of the usual number")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    kill, some, limit, mutation = {
        "full": (100, list(range(2, 9)), 12, 1000),
        "quick": (12, [2, 8], 2, 60),
        "smoke": (4, [2], 1, 10),
    }[asked.amount]
    if asked.tries:
        kill = limit = mutation = asked.tries
    random.seed(asked.seed)
    torch.set_num_threads(1)  # this process computes nothing: a forked one may
    base = Path(tempfile.mkdtemp(prefix="g2dbench-stress-"))
    base.chmod(0o755)
    os.chdir(base)
    os.environ |= {"HOME": str(base / "home"), "G2DBENCH_FEATURES": str(base / "cache")}
    (base / "home").mkdir()
    _import(base / "imports")
    made = make(base / "made")
    (made.base / "recipes").mkdir()
    (made.base / "recipes" / "stress.toml").write_text(RECIPE)
    table, only = Table(), asked.only.split(",")
    if "kills" in only:
        kills.run(made, table, kill)
    if "writers" in only:
        writers.run(made, table, some)
    if "limits" in only:
        limits.run(made, table, limit)
    if "mutations" in only:
        mutations.run(made, table, mutation)
    code = table.finish(str(base))
    if code == 0:
        shutil.rmtree(base)
    return code


def _import(place: Path) -> None:
    """Run each command once in a child, and import what it imported."""
    from material import Material

    place.mkdir()
    made = Material(place)
    made.recipe.write_text(RECIPE)
    write_root(place / "root", 8)
    store = ["data", "prepare", f"synthetic:{COUNT}", "--size", SIZE, "--store", made.store]
    import_all(
        made.prepare(place / "root", place / "s"), store, made.pretrain(made.run, False),
        made.eval(made.results), made.eval(made.results, model=made.run),
        ["leaderboard", made.results], ["verify", made.results], ["score", made.results],
    )  # fmt: skip
    shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
