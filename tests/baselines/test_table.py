"""The table in docs/baselines.md is that of today's cards and tests."""

import runpy
import tomllib
from pathlib import Path
from types import SimpleNamespace

from g2dbench.cards import ModelCard
from g2dbench.registry import Registry


def made(project: Path) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(project / "benchmarks" / "baselines_table.py")))


def test_the_page_has_todays_table(project: Path) -> None:
    table = made(project)
    page = table.PAGE.read_text(encoding="utf-8")
    assert page == table.filled(page), "run `python benchmarks/baselines_table.py --write`"
    for card in Registry().cards(ModelCard):
        assert f"\n| `{card.name}` |" in page


def test_what_the_table_says_of_parity_exists(project: Path) -> None:
    listed = tomllib.loads((project / "tests/baselines/parity.toml").read_text())
    sources = [*(project / "tests").rglob("*.py")]
    texts = "".join(file.read_text(encoding="utf-8") for file in sources)
    for name, entry in listed.items():
        assert entry.keys() <= {"live", "golden", "layouts", "against"}, name
        if "golden" in entry:
            assert (project / entry["golden"]).is_file(), name
        if "live" in entry:
            read = f'original("{entry["live"].removeprefix("G2DBENCH_ORIGINAL_")}")'
            assert f'"{entry["live"]}"' in texts or read in texts, name
