"""Two tables of docs/baselines.md, from cards and tests: `python benchmarks/baselines_table.py`.

Prints the tables; --write puts them into the page. One says what each model can do, the layouts
that it loads, how it is compared with its original, and the license of its weights; the other,
which task each model runs.
"""

import argparse
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAGE, TESTS = ROOT / "docs" / "baselines.md", ROOT / "tests"
START, END = "<!-- table: python benchmarks/baselines_table.py --write -->", "<!-- end of table -->"
TASKS_START = "<!-- tasks: python benchmarks/baselines_table.py --write -->"
TASKS_END = "<!-- end of tasks -->"
HEAD = (
    "model", "global", "dense", "text", "locate", "match", "decoder", "layouts", "parity live",
    "parity golden", "license",
)  # fmt: skip
CAPABILITIES = ("features", "embeds", "locates", "matches", "decodes")
"""In the order of the columns after "global"."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    args = parser.parse_args()
    if args.write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(f"{table()}\n\n{task_table()}")


def filled(page: str) -> str:
    """The page with today's tables, each between its two marks."""
    for start, end, content in ((START, END, table()), (TASKS_START, TASKS_END, task_table())):
        before, _, rest = page.partition(start)
        _, _, after = rest.partition(end)
        page = f"{before}{start}\n\n{content}\n\n{end}{after}"
    return page


def table() -> str:
    """One row per registered model of this package, sorted by name."""
    parity = tomllib.loads((TESTS / "baselines" / "parity.toml").read_text(encoding="utf-8"))
    rows = [row(card, parity.get(card.name, {})) for card in Registry().cards(ModelCard)]
    return markdown(HEAD, rows)


def task_table() -> str:
    """Which task each model runs; tests/baselines/test_matrix.py runs every cell."""
    tasks = sorted(Registry().cards(TaskCard), key=lambda card: card.order)
    rows = [
        (f"`{card.name}`", *("yes" if runs(card, task) else "-" for task in tasks))
        for card in Registry().cards(ModelCard)
    ]
    return markdown(("model", *(task.name for task in tasks)), rows)


def runs(model: ModelCard, task: TaskCard) -> bool:
    """Whether the cards allow it, and tests/baselines/unsupported.toml does not except it."""
    text = (TESTS / "baselines" / "unsupported.toml").read_text(encoding="utf-8")
    for cells in tomllib.loads(text)["cells"]:
        others = "except" in cells and model.name not in cells["except"]
        if cells["task"] == task.name and (others or model.name in cells.get("models", ())):
            return False
    return bool(set(model.capabilities) & set(task.needs))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row(card: ModelCard, parity: dict[str, Any]) -> tuple[str, ...]:
    has = card.capabilities
    able = ["embeds" in has or "features" in has, *(name in has for name in CAPABILITIES)]
    against = parity.get("against", "")
    live = parity.get("live") or live_of(card.name)
    golden = parity.get("golden") or golden_of(card.name)
    layouts = ", ".join(parity.get("layouts", ())) or card.source_kind
    return (
        f"`{card.name}`",
        *("yes" if each else "-" for each in able),
        layouts,
        f"`{live}`" if live else against or "no",
        f"`{golden}`" if golden else against or "no",
        license_of(card),
    )


def license_of(card: ModelCard) -> str:
    terms = [card.licence, "no commercial use" * card.noncommercial, "gated" * card.gated]
    return "; ".join(term for term in terms if term).replace("|", "/")


def golden_of(name: str) -> str:
    """The golden file of this name, or of its first size, by its path from the project's root."""
    wanted = plain(name)
    files = [*TESTS.glob("golden/*.json"), *TESTS.glob("baselines/**/golden/*.json")]
    exact = [file for file in files if plain(file.stem) == wanted]
    found = exact or sorted(file for file in files if plain(file.stem).startswith(f"{wanted}_"))
    return found[0].relative_to(TESTS.parent).as_posix() if found else ""


def live_of(name: str) -> str:
    """The variable of the original's folder, if the tests of the baselines read it."""
    own = plain(name).upper()
    variable = f"G2DBENCH_ORIGINAL_{own}"
    if any(TESTS.glob(f"support/originals/**/{plain(name)}.py")):
        return variable
    files = [*TESTS.glob("baselines/**/*.py"), *TESTS.glob("support/**/*.py")]
    named = (variable, f'original("{own}")')
    texts = [file.read_text(encoding="utf-8") for file in files]
    return variable if any(w in text for text in texts for w in named) else ""


def plain(name: str) -> str:
    return name.replace("-", "_").lower()


if __name__ == "__main__":
    main()
