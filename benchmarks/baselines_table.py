"""The table of docs/baselines.md, from cards and tests: `python benchmarks/baselines_table.py`.

Prints the table; --write puts it into the page. Columns: what each model can do, the layouts that
it loads, how it is compared with its original, and the license of its weights.
"""

import argparse
import tomllib
from pathlib import Path
from typing import Any

from g2dbench.cards import ModelCard
from g2dbench.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAGE, TESTS = ROOT / "docs" / "baselines.md", ROOT / "tests"
START, END = "<!-- table: python benchmarks/baselines_table.py --write -->", "<!-- end of table -->"
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
        print(table())


def filled(page: str) -> str:
    """The page with today's table between its two marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


def table() -> str:
    """One row per registered model of this package, sorted by name."""
    parity = tomllib.loads((TESTS / "baselines" / "parity.toml").read_text(encoding="utf-8"))
    rows = [row(card, parity.get(card.name, {})) for card in Registry().cards(ModelCard)]
    lines = [HEAD, ("---",) * len(HEAD), *rows]
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
    """The golden file of this name, by its path from the project's root."""
    wanted = plain(name)
    files = [*TESTS.glob("golden/*.*"), *TESTS.glob("baselines/**/golden/*.*")]
    found = [file for file in files if plain(file.stem) == wanted and file.suffix != ".py"]
    return found[0].relative_to(TESTS.parent).as_posix() if found else ""


def live_of(name: str) -> str:
    """The variable of the original's folder, if the tests of the baselines read it."""
    variable = f"G2DBENCH_ORIGINAL_{plain(name).upper()}"
    if any(TESTS.glob(f"support/originals/**/{plain(name)}.py")):
        return variable
    files = [*TESTS.glob("baselines/**/*.py"), *TESTS.glob("support/**/*.py")]
    return variable if any(variable in file.read_text(encoding="utf-8") for file in files) else ""


def plain(name: str) -> str:
    return name.replace("-", "_").lower()


if __name__ == "__main__":
    main()
