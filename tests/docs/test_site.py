"""The documentation without mkdocs: links and anchors, the navigation, the generated pages."""

import re
import runpy
import unicodedata
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

_LINK = re.compile(r"(?<!\\)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)


def pages(project: Path) -> list[Path]:
    roots = [project / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*roots, *sorted((project / "docs").rglob("*.md"))]


def prose(page: Path) -> str:
    """The text without code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and mkdocs make them."""
    found: list[str] = []
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        text = re.sub(r"[*_`]|\[([^\]]*)\]\([^)]*\)", lambda m: m[1] or "", heading)
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip())
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


def broken_links(page: Path, root: Path) -> Iterator[str]:
    """Relative links of a page that lead nowhere, or out of the folder `root`."""
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if not other.exists() or not other.is_relative_to(root):
            yield f"{page.name}: {target} leads nowhere"
        elif anchor and anchor not in anchors(other):
            yield f"{page.name}: {target}: there is no such heading"


def test_no_link_is_broken(project: Path) -> None:
    docs = project / "docs"
    broken = []
    for page in pages(project):
        # A page of the site cannot link to a file that is not part of the site.
        broken += broken_links(page, docs if page.is_relative_to(docs) else project)
    assert not broken


@pytest.mark.parametrize(
    ("link", "ok"),
    [
        ("other.md", True), ("other.md#two-words", True), ("#here", True), ("https://x.y", True),
        ("other.md#three", False), ("gone.md", False), ("#gone", False), ("../out.md", False),
    ],
)  # fmt: skip
def test_the_check_of_links_finds_faults(link: str, ok: bool, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (tmp_path / "out.md").write_text("# Out\n")
    (folder / "other.md").write_text("# Other\n\n## Two `words`\n\n```\n# three\n```\n")
    page = folder / "page.md"
    page.write_text(f"# Here\n\nSee [it]({link}), not `[code](nowhere.md)`.\n")
    assert bool(list(broken_links(page, folder))) is not ok


def navigation(entry: Any) -> Iterator[str]:
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from navigation(part)


def test_the_navigation_has_every_page_once(project: Path) -> None:
    config = yaml.safe_load((project / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = list(navigation(config["nav"]))
    assert len(listed) == len(set(listed))
    existing = {
        page.relative_to(project / "docs").as_posix() for page in (project / "docs").rglob("*.md")
    }
    assert existing - set(listed) == set(), "add these pages to the navigation in mkdocs.yml"
    assert set(listed) - existing == set(), "these pages of mkdocs.yml do not exist"


def test_the_generated_pages_are_up_to_date(project: Path) -> None:
    made = runpy.run_path(str(project / "benchmarks" / "reference.py"))["pages"]()
    folder = project / "docs" / "reference"
    assert {page.name for page in folder.iterdir()} == set(made)
    if Version(version("typer")) < Version("0.24"):
        del made["cli.md"]  # with a newer click, these lose the help of arguments
    for name, text in made.items():
        stale = f"docs/reference/{name} is stale: python benchmarks/reference.py --write"
        assert (folder / name).read_text(encoding="utf-8") == text, stale


def test_the_citation_names_this_version(project: Path) -> None:
    citation = yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))
    package = (project / "pyproject.toml").read_text(encoding="utf-8")
    for field in ("version", "license"):
        assert f'\n{field} = "{citation[field]}"\n' in package
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_first_page_leads_to_every_part_of_the_site(project: Path) -> None:
    text = (project / "docs" / "index.md").read_text(encoding="utf-8")
    for page in ("tutorial", "api", "clinician", "gate", "extend/model", "reference/cli"):
        assert f"]({page}.md)" in text
