"""A page does what it says: its code runs, its files are written, its commands exit with 0."""

from pathlib import Path

import pytest
from support.pages import blocks, run_page

from g2dbench.result import load_all

pytestmark = pytest.mark.integration

CELLS = {"model": 2, "task": 1, "data-set": 1, "method": 1, "suite": 3}
"""Page of docs/extend -> the number of cells that its commands evaluate."""


@pytest.mark.parametrize("name", CELLS)
def test_a_page_on_extending_runs_from_top_to_bottom(
    name: str, project: Path, tmp_path: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("G2DBENCH_STORE", str(own_store))
    run_page(project / "docs" / "extend" / f"{name}.md")
    results = load_all(tmp_path / "results")
    assert [result.status for result in results] == ["done"] * CELLS[name]


def test_every_page_on_extending_is_tested(project: Path) -> None:
    pages = {page.stem for page in (project / "docs" / "extend").glob("*.md")}
    assert pages == set(CELLS)


def test_a_block_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python {linenums}\n1\n```\n")
    with pytest.raises(AssertionError, match="another kind"):
        blocks(page)
