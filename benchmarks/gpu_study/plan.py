"""What the study trains and evaluates, in the order of importance.

A *scale* fixes the data and the length of training, an *arm* how the model is trained, a *cell* how
it is evaluated. The floor of the bench is `untrained`, its ceilings are `labels`, `told` and
`named`, which are told the ground truth of the pre-training images.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.recipe import Recipe

PRECISION = "mask precision"
"""The cell that measures where the pseudo masks are; the others are tasks."""

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Size of a study.

    Attributes:
        size: side of the images in pixels; changes: of the recipe `g2d-tiny`, besides these fields.
        drawn: radiographs for pre-training; 70 % are in the training split, 10 % are held out.
        bench: radiographs of other patients for the tasks; fraction: share of their training
            patients that is labelled, some 100 images; limit: test images.
        epochs, batch: of pre-training; share_start: part of the epochs before pixel alignment.
    """

    name: str
    size: int
    drawn: int
    bench: int
    fraction: float
    limit: int
    epochs: int
    batch: int = 64
    share_start: float = 0.5
    changes: tuple[str, ...] = ()

    def recipe(self, pairs: int, changes: tuple[str, ...] = ()) -> Recipe:
        """The recipe on this many training pairs; `changes` are those of an arm."""
        start = round(self.share_start * self.epochs) * (pairs // self.batch)
        return recipes.override(
            recipes.load("g2d-tiny"),
            [
                f"data.size={self.size}",
                f"model.image.size={self.size}",
                f"optim.epochs={self.epochs}",
                f"optim.batch_size={self.batch}",
                f"model.pixel.start={start}",
                *self.changes,
                *changes,
            ],
        )


_FULL = (
    "model.image.depth=5",
    "model.decoder.channels=[64, 48, 32, 24, 16]",
)
"""The whole ResNet-18, whose last map has stride 32."""

_CPU = Scale(
    name="64 px", size=64, drawn=4000, bench=1600, fraction=0.09, limit=320, epochs=10, batch=32
)
"""What two cores train in some three minutes, at the learning rate of the recipe."""

_MAIN = Scale(name="96 px", size=96, drawn=24_000, bench=1600, fraction=0.09, limit=320, epochs=10)
SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            name="small", size=64, drawn=240, bench=240, fraction=0.3, limit=20, epochs=2, batch=16
        ),
        _CPU,
        _MAIN,
        replace(_MAIN, name="96 px, longer alignment", epochs=15, share_start=0.67),
        replace(
            _MAIN, name="96 px, whole encoder", changes=(*_FULL, "model.attention.stride=16")
        ),
        replace(
            _MAIN,
            name="96 px, whole encoder, stride 8",
            changes=(*_FULL, "model.attention.stride=8"),
        ),
        replace(_MAIN, name="128 px", size=128),
        replace(
            _MAIN,
            name="224 px",
            size=224,
            changes=("model.image.depth=4", "model.decoder.channels=[64, 48, 32, 16]",
                     "model.attention.stride=16"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """How a model is trained: changes of the recipe, and what it is told of the ground truth.

    told: "" nothing; "masks" the findings of an image as the decoder's target instead of pseudo
    masks; "names" these, and which pixels are which finding; "labels" which findings it has, and
    nothing else.
    """

    name: str
    changes: tuple[str, ...] = ()
    told: str = ""


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(UNTRAINED, ("model.pixel.target=none",)),
        Arm("none", ("model.pixel.target=none",)),
        Arm("named", told="names"),
        Arm("told", told="masks"),
        Arm("pseudo"),
        Arm("labels", ("model.pixel.target=none",), told="labels"),
        Arm("shuffled", ("model.mask.pairing=shuffled",)),
        Arm("reconstruction", ("model.pixel.target=image",)),
        Arm("report masks", ("model.mask.source=report",)),
        Arm("batch threshold", ("model.mask.threshold=batch", "model.mask.percentile=92")),
        Arm("gradient masks", ("model.mask.source=gradient",)),
    )
}


@dataclass(frozen=True)
class Cell:
    """One evaluation: a task with its protocol, changed by `changes`.

    findings: those that are segmented, detected or grounded; empty for all. labels: labelled
    training images, as a multiple of the scale's.
    """

    name: str
    task: str
    protocol: str
    findings: tuple[str, ...] = ()
    labels: float = 1.0
    changes: dict[str, Any] = field(default_factory=dict)


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("ground", "ground", "valid"),
        Cell("ground cardiomegaly", "ground", "valid", ("cardiomegaly",)),
        Cell("ground contrast", "ground", "contrast"),
        Cell("ground contrast cardiomegaly", "ground", "contrast", ("cardiomegaly",)),
        Cell("ground contrast consolidation", "ground", "contrast", ("consolidation",)),
        Cell("ground contrast pneumothorax", "ground", "contrast", ("pneumothorax",)),
        Cell("seg pneumothorax", "seg", "small", ("pneumothorax",)),
        Cell("seg effusion", "seg", "small", ("pleural effusion",)),
        Cell("det effusion, fcos", "det", "fcos", ("pleural effusion",)),
        Cell("det cardiomegaly, fcos", "det", "fcos", ("cardiomegaly",)),
        Cell("det all, fcos, five times the labels", "det", "fcos", (), 5.0),
        Cell("det cardiomegaly", "det", "g2d", ("cardiomegaly",)),
        Cell("det all, five times the labels", "det", "g2d", (), 5.0),
        Cell("seg consolidation", "seg", "small", ("consolidation",)),
        Cell("seg nodule", "seg", "small", ("nodule",)),
        Cell("seg all", "seg", "small"),
        Cell("seg probe all", "seg", "dense-probe"),
        Cell("det all", "det", "g2d"),
        Cell("det consolidation", "det", "g2d", ("consolidation",)),
        Cell("det consolidation, fcos", "det", "fcos", ("consolidation",)),
        Cell("seg consolidation, a third of the labels", "seg", "small", ("consolidation",), 1 / 3),
        Cell("seg all, five times the labels", "seg", "small", (), 5.0),
        Cell("zeroshot", "zeroshot", "g2d"),
    )
}
MARGINS = {"seg": 15.0, "det": 15.0, "ground": 10.0}
"""Points by which a ceiling must exceed the floor for the bench to be fit, by task."""


@dataclass(frozen=True, order=True)
class Training:
    """One model of the study."""

    scale: str
    arm: str
    seed: int


Stage = tuple[str, tuple[str, ...], tuple[int, ...]]
"""A scale, its arms, and their seeds."""

STAGES: dict[str, tuple[Stage, ...]] = {
    "small": (("small", ("untrained", "none", "named", "pseudo"), (0,)),),
    "cpu": (
        ("64 px", ("untrained", "none", "told", "pseudo"), (0, 1, 2)),
        ("64 px", ("named", "shuffled", "reconstruction"), (0, 1, 2)),
    ),
    "bench": (
        ("96 px", ("untrained", "named", "none", "told", "pseudo", "labels"), (0, 1, 2)),
        ("96 px, whole encoder", ("untrained", "named"), (0,)),
    ),
    "sizes": (("128 px", ("untrained", "named", "none", "told", "pseudo"), (0, 1, 2)),),
    "arms": (("96 px", ("shuffled", "reconstruction"), (0, 1, 2)),),
    "ideas": (
        ("96 px", ("report masks", "batch threshold", "gradient masks"), (0, 1, 2)),
        ("96 px, longer alignment", ("none", "pseudo"), (0, 1, 2)),
        ("96 px, whole encoder", ("none", "pseudo"), (0, 1, 2)),
        ("96 px, whole encoder, stride 8", ("none", "pseudo"), (0, 1, 2)),
    ),
    "large": (("224 px", ("untrained", "named", "none", "told", "pseudo", "shuffled"), (0,)),),
}


def trainings(stages: tuple[str, ...], seeds: int) -> Iterator[Training]:
    """All models of these stages: seed after seed, so that a partial run compares all arms."""
    for stage in stages:
        for scale, arms, known in STAGES[stage]:
            for seed in known[:seeds]:
                for arm in arms:
                    yield Training(scale, arm, seed)
