"""Options that several commands share, with one wording."""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.errors import Misuse

Root = Annotated[
    Path | None,
    typer.Option("--root", help="The data set's folder, as its owners distribute it."),
]
Store = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="G2DBENCH_STORE",
        help="Where prepared data sets are kept.",
        show_default="~/.cache/g2dbench",
    ),
]
DEFAULT_STORE = Path("~/.cache/g2dbench").expanduser()
FeatureCache = Annotated[
    Path,
    typer.Option(
        "--feature-cache",
        envvar="G2DBENCH_FEATURES",
        help="Folder that caches features of frozen encoders.",
        show_default="~/.cache/g2dbench-features",
    ),
]
DEFAULT_FEATURE_CACHE = Path("~/.cache/g2dbench-features").expanduser()
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A file with a model, task, data set or method of your own."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Results = Annotated[Path, typer.Argument(help="The folder that `g2dbench eval` wrote.")]
Size = Annotated[
    int | None,
    typer.Option("--size", min=32, max=4096, help="Short side of the prepared images in pixels."),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Published split: official, mgca, mgca-det, benchx, mrm, ...",
        show_default="the official one where the data set has one, else ours",
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="Option of the data set's reader, such as a column name.",
    ),
]


def parse_options(words: list[str] | None) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping; Misuse if one is none or a key comes twice."""
    parsed: dict[str, str] = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or key in parsed:
            raise Misuse(f"--option {word!r}: say KEY=VALUE, each key once")
        parsed[key] = value
    return parsed
