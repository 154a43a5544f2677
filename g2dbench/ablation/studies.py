"""The studies of `g2dbench ablate`: the paper's ablations, and questions that it leaves open.

An arm is a set of recipe changes; the first arm of a study is the reference that the others are
held against. Published numbers are those of arXiv 2312.01522, tables 5a to 5f and 8.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from g2dbench.errors import Misuse
from g2dbench.recipes.recipe import Recipe, override
from g2dbench.registry import unknown


@dataclass(frozen=True)
class Arm:
    """One setting under study.

    changes: to the recipe, as for `--set`. transfer: hand the decoder over or the encoder alone,
    where the task knows the difference. paper: the arm's name in `published.csv`, "" for none.
    """

    name: str
    changes: tuple[str, ...] = ()
    transfer: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Study:
    """A question and its arms; the first arm is the reference that the others are held against.

    tables: those of the paper (arXiv 2312.01522) that ask it; none for what the paper leaves open.
    """

    name: str
    question: str
    tables: tuple[str, ...]
    arms: tuple[Arm, ...]


ENCODER_ONLY = "-encoder"
"""Ending of a protocol that starts from a fresh decoder."""

STUDIES: tuple[Study, ...] = (
    Study(
        "decoder",
        "what should the decoder learn?",
        ("5a", "8"),
        (
            Arm("pseudo masks", paper="pseudo-segmentation"),
            Arm("none", ("model.pixel.target=none",), paper="none"),
            Arm("reconstruction", ("model.pixel.target=image",), paper="reconstruction"),
            Arm("shuffled masks", ("model.mask.pairing=shuffled",), paper="shuffled"),
            Arm("pseudo masks, encoder only", transfer=ENCODER_ONLY),
        ),
    ),
    Study(
        "threshold",
        "where should the attention be cut?",
        ("5b",),
        (
            Arm("85th percentile", ("model.mask.percentile=85",), paper="85th percentile"),
            Arm("75th percentile", ("model.mask.percentile=75",), paper="75th percentile"),
            Arm("median", ("model.mask.percentile=50",), paper="median"),
            Arm("mixture", ("model.mask.threshold=mixture",), paper="GMM"),
        ),
    ),
    Study(
        "projection",
        "how wide should the shared space be?",
        ("5c",),
        tuple(Arm(f"{n}", (f"model.width={n}",), paper=f"{n}") for n in (128, 256, 512)),
    ),
    Study(
        "aggregation",
        "one mask from all heads, or one each?",
        ("5d",),
        (
            Arm("mean of heads", ("model.mask.heads=mean",), paper="yes"),
            Arm("one mask a head", ("model.mask.heads=separate",), paper="no"),
        ),
    ),
    Study(
        "heads",
        "how many attention heads?",
        ("5e",),
        tuple(Arm(f"{n}", (f"model.attention.heads={n}",), paper=f"{n}") for n in (3, 1, 2, 4)),
    ),
    Study(
        "refinement",
        "do body mask and smoothing help?",
        ("5f",),
        (
            Arm("both", paper="both"),
            Arm("no body mask", ("model.mask.body=none",), paper="without body mask"),
            Arm("no smoothing", ("model.mask.smoothing=none",), paper="without edge smoothing"),
        ),
    ),
    Study(
        "weight",
        "how much should pixel alignment weigh?",
        (),
        tuple(
            Arm(f"x {n:g}", (f"model.pixel.dice={n / 2}", f"model.pixel.bce={n / 2}"))
            for n in (1.0, 0.25, 4.0)
        ),
    ),
    Study(
        "start",
        "when should pixel alignment begin?",
        (),
        (
            Arm("the recipe's step"),
            Arm("at once", ("model.pixel.start=0",)),
            Arm("200 steps", ("model.pixel.start=200",)),
            Arm("400 steps", ("model.pixel.start=400",)),
        ),
    ),
    Study(
        "resolution",
        "how large should the images be?",
        (),
        tuple(Arm(f"{n} px", (f"model.image.size={n}",)) for n in (64, 96, 128)),
    ),
    Study(
        "source",
        "masks from the query's attention, or from the report?",
        (),
        (
            Arm("query", ("model.mask.source=query",)),
            Arm("report", ("model.mask.source=report",)),
            Arm("report, edges of the image", (
                "model.mask.source=report", "model.mask.smoothing=guided",
            )),
        ),
    ),
)  # fmt: skip


def find(name: str, more: Sequence[str] = ()) -> Study:
    """The study of a name, with further arms "NAME: KEY=VALUE ..."; Misuse for a wrong one."""
    known = {study.name: study for study in STUDIES}
    if name not in known:
        raise Misuse(unknown("study", name, list(known)))
    study = known[name]
    return Study(study.name, study.question, study.tables, (*study.arms, *map(_arm, more)))


def _arm(text: str) -> Arm:
    name, colon, changes = text.partition(":")
    if not colon or not name.strip() or not changes.split():
        raise Misuse(
            f"--arm {text!r} is not NAME: KEY=VALUE ..., such as 'p90: model.mask.percentile=90'"
        )
    return Arm(name.strip(), tuple(changes.split()))


def recipes(study: Study, recipe: Recipe) -> list[Recipe]:
    """Each arm's recipe; Misuse where two arms of one transfer would be the same."""
    found = [override(recipe, arm.changes) for arm in study.arms]
    seen: dict[tuple[str, str], str] = {}
    for arm, changed in zip(study.arms, found, strict=True):
        key = (changed.digest(), arm.transfer)
        if key in seen:
            raise Misuse(
                f"the arms {seen[key]!r} and {arm.name!r} of {study.name!r} are the same with the "
                f"recipe {recipe.name!r}: nothing would be compared"
            )
        seen[key] = arm.name
    return found


def published(study: Study, arm: Arm, task: str) -> tuple[str, ...]:
    """What the paper prints for an arm on a task: "65.6±1.7 SIIM"; empty where it says nothing."""
    with (files("g2dbench.ablation") / "published.csv").open(encoding="utf-8") as file:
        known = list(csv.DictReader(file))
    return tuple(
        f"{row['value']}±{row['std']} {row['data']}"
        for row in known
        if row["table"] in study.tables and row["task"] == task and row["arm"] == arm.paper
    )
