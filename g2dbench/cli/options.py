"""Every option that more than one command has, with one meaning, one help text and one type.

Variants of an option differ in their Python type only: a list where the option repeats, None where
the command computes the default. tests/cli/test_options.py checks that no command defines an option
of another command again.
"""

from pathlib import Path
from typing import Annotated

import typer

from g2dbench.errors import Misuse

_DATA = "Data set; `g2dbench list data`."
_FRACTION = "Fraction of the training patients, in (0, 1]."
_OUT = "Folder to write to."
_PROTOCOL = "Protocol of the tasks; `g2dbench list tasks`."
_RECIPE = "Recipe name or TOML file; `g2dbench list recipes`."
_SEED = "Random seed of training and of fitted heads."
REPEATS = " Repeats."

Data = Annotated[str, typer.Option("--data", help=_DATA)]
OptionalData = Annotated[str | None, typer.Option("--data", help=_DATA)]
DataList = Annotated[list[str], typer.Option("--data", help=_DATA + REPEATS)]
DEFAULT_DATA = ["synthetic"]
OptionalDataList = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help=_DATA + REPEATS, show_default="synthetic, or the suite's or plan's"
    ),
]

Root = Annotated[
    Path | None,
    typer.Option("--root", help="The data set's folder, as its owners distribute it."),
]
DEFAULT_STORE = Path("~/.cache/g2dbench").expanduser()
Store = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="G2DBENCH_STORE",
        help="Folder of the prepared data sets.",
        show_default="~/.cache/g2dbench",
    ),
]
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
Size = Annotated[
    int | None,
    typer.Option("--size", min=16, max=4096, help="Short side of the prepared images in pixels."),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Published split: official, mgca, mgca-det, benchx, mrm, ...",
        show_default="the official one where the data set has one, else ours",
    ),
]
ReaderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help=f"Option of the data set's reader, such as a column name.{REPEATS}",
    ),
]


def _bounded_workers(asked: int | None) -> int | None:
    """At most two workers per core; a note says so."""
    from g2dbench.system.worker_pool import max_workers

    if asked is None or asked <= (most := max_workers()):
        return asked
    typer.echo(f"note: --workers {asked}: on this machine {most} start, not more", err=True)
    return most


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Worker processes that read images; 0 reads in the main process.",
        callback=_bounded_workers,
        show_default="prepare: one per core; pretrain: 4, on the CPU 0",
    ),
]

Recipe = Annotated[str, typer.Option("--recipe", help=_RECIPE)]
MethodRecipe = Annotated[
    str | None, typer.Option("--recipe", help=_RECIPE, show_default="METHOD-tiny")
]
OptionalRecipes = Annotated[
    list[str] | None,
    typer.Option("--recipe", help=_RECIPE + REPEATS, show_default="g2d-tiny and convirt-tiny"),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=f"Change a setting of the recipe.{REPEATS}"),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Metric instead of the main one, such as f1 or dice:nodule.",
        show_default="the task's main one",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help=_SEED)]
Seeds = Annotated[list[int], typer.Option("--seed", min=0, help=_SEED + REPEATS)]
DEFAULT_SEEDS = [0]
OptionalSeeds = Annotated[
    list[int] | None,
    typer.Option("--seed", min=0, help=_SEED + REPEATS, show_default="0, or the plan's"),
]

_TASK = f"Task; `g2dbench list tasks`.{REPEATS}"
Tasks = Annotated[list[str], typer.Option("--task", help=_TASK)]
OptionalTasks = Annotated[
    list[str] | None, typer.Option("--task", help=_TASK, show_default="the suite's or plan's")
]
Protocol = Annotated[str, typer.Option("--protocol", help=_PROTOCOL)]
TaskProtocol = Annotated[
    str | None, typer.Option("--protocol", help=_PROTOCOL, show_default="the task's first")
]
OptionalProtocols = Annotated[
    list[str] | None,
    typer.Option("--protocol", help=_PROTOCOL + REPEATS, show_default="the task's first"),
]
Fraction = Annotated[float, typer.Option("--fraction", help=_FRACTION)]
Fractions = Annotated[list[float], typer.Option("--fraction", help=_FRACTION + REPEATS)]
DEFAULT_FRACTIONS = [1.0]
OptionalFractions = Annotated[
    list[float] | None,
    typer.Option(
        "--fraction", help=_FRACTION + REPEATS, show_default="1, or the suite's or plan's"
    ),
]

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="NAME, NAME:SOURCE, run folder or weights file. Repeats.",
        show_default="the newest run in runs/",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most N test images.")]

SubsetSeeds = Annotated[
    list[int] | None,
    typer.Option("--subset-seed", min=0, help=f"Seed that samples the fraction.{REPEATS}"),
]
Rerun = Annotated[bool, typer.Option("--rerun", help="Evaluate again the cells that are on disk.")]
SaveHeads = Annotated[
    bool, typer.Option("--save-heads", help="Store fitted heads, for `g2dbench predict`.")
]
FeatureCacheGb = Annotated[
    float,
    typer.Option(
        "--feature-cache-gb", min=0, help="Limit of the feature cache; 0 does not use it."
    ),
]
EvaluationBatch = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Images per batch; it affects speed, not scores."),
]
PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Print cells, expected time and disk; evaluate nothing.")
]

Out = Annotated[Path, typer.Option("--out", help=_OUT)]
RunOut = Annotated[Path | None, typer.Option("--out", help=_OUT, show_default="runs/RECIPE-sSEED")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help=f"File with your own model, task, data set or method.{REPEATS}"),
]
ProfiledModels = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="NAME, NAME:SOURCE, run folder or weights file. Repeats.",
        show_default="none: recipes are measured",
    ),
]
WeightsFolder = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        envvar="G2DBENCH_WEIGHTS",
        help="Folder with downloaded weights: FOLDER/FILE or FOLDER/MODEL/FILE.",
        show_default="the caches of the hub and of torch alone",
    ),
]
EachFinding = Annotated[
    bool, typer.Option("--findings", help="Also print each finding, not only the mean.")
]
NoImages = Annotated[
    bool, typer.Option("--no-images", help="Leave out the images of the data set.")
]
Results = Annotated[
    Path,
    typer.Argument(help="Folder or address (s3://...) that `g2dbench eval` wrote."),
]


def parse_options(words: list[str] | None) -> dict[str, str]:
    """`["KEY=VALUE", ...]` as a mapping; Misuse for another form or a repeated key."""
    parsed: dict[str, str] = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or key in parsed:
            raise Misuse(f"--option {word!r}: write KEY=VALUE, and give each key once")
        parsed[key] = value
    return parsed
