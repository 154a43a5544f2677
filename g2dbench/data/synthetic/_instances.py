"""Samples the instances of findings in a synthetic chest: position, size, and words.

Lung positions are (u, v): u from 0 inside to 1 outside, v from 0 at the apex to 1 at the base.
"""

from collections.abc import Callable
from dataclasses import dataclass

from g2dbench.data.synthetic._body import Body
from g2dbench.data.synthetic._random import Random

OBJECTS = ("coin", "button", "necklace", "surgical clip", "safety pin")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance of a finding.

    Attributes:
        kind: how it is drawn; side: "right", "left" or "" for the midline.
        x, y: its center; wide, high: its radii, or what `kind` takes them for; angle in radians.
        strength: 0..1, how much air or contrast it takes; seed: fixes its texture.
        zone: "upper", "mid", "lower" or ""; size: "small", "moderate" or "large".
    """

    kind: str
    side: str
    x: float = 0.0
    y: float = 0.0
    wide: float = 0.0
    high: float = 0.0
    angle: float = 0.0
    strength: float = 1.0
    seed: int = 0
    zone: str = ""
    size: str = "moderate"


def zone_of(v: float) -> str:
    """The third of the lung (upper, mid, lower) at a height."""
    return "upper" if v < 0.36 else "mid" if v < 0.66 else "lower"


def _size(value: float, small: float, large: float) -> str:
    return "small" if value < small else "large" if value > large else "moderate"


def _side(rng: Random) -> str:
    return "right" if rng.uniform() < 0.53 else "left"


def _sides(rng: Random, both: float) -> tuple[str, ...]:
    """One side, or both with the probability `both`."""
    return ("right", "left") if rng.uniform() < both else (_side(rng),)


def _seed(rng: Random) -> int:
    return rng.integer(0, 1 << 31)


def _consolidation(rng: Random, body: Body) -> tuple[Instance, ...]:
    patches = []
    for side in _sides(rng, 0.25):
        for _ in range(1 + int(rng.uniform() < 0.2)):
            v = rng.choice([rng.uniform(0.15, 0.4), rng.uniform(0.4, 0.85)], [0.3, 0.7])
            x, y = body.place(side, rng.uniform(0.25, 0.8), v)
            wide = rng.uniform(0.05, 0.11)
            patches.append(
                Instance(
                    kind="patch",
                    side=side,
                    x=x,
                    y=y,
                    wide=wide,
                    high=wide * rng.uniform(0.7, 1.3),
                    angle=rng.uniform(0, 3),
                    strength=rng.uniform(0.45, 0.9),
                    seed=_seed(rng),
                    zone=zone_of(v),
                    size=_size(wide, 0.065, 0.095),
                )
            )
    return tuple(patches)


def _effusion(rng: Random, body: Body) -> tuple[Instance, ...]:
    """`high` is how far the meniscus stands above the costophrenic angle."""
    items = []
    for side in _sides(rng, 0.3):
        high = 0.06 + 0.34 * rng.beta(1.2, 2.4)
        items.append(
            Instance(
                kind="fluid",
                side=side,
                wide=rng.uniform(0.05, 0.12),
                high=high,
                strength=rng.uniform(0.85, 1.0),
                zone="lower",
                size=_size(high, 0.12, 0.24),
            )
        )
    return tuple(items)


def _pneumothorax(rng: Random, body: Body) -> tuple[Instance, ...]:
    """`high` is the drop of the lung's apex, `wide` the gap beside it, `y` its lower end."""
    grade = rng.beta(1.3, 2.0)
    return (
        Instance(
            kind="air",
            side=_side(rng),
            wide=0.018 + 0.11 * grade,
            high=0.04 + 0.13 * grade,
            y=rng.uniform(0.5, 0.8) + 0.4 * grade,
            strength=rng.uniform(0.7, 1.0),
            zone="upper",
            size=_size(grade, 0.25, 0.6),
        ),
    )


def _nodule(rng: Random, body: Body) -> tuple[Instance, ...]:
    items = []
    for _ in range(1 + int(rng.uniform() < 0.15)):
        side, v = _side(rng), rng.uniform(0.12, 0.82)
        x, y = body.place(side, rng.uniform(0.4, 0.88), v)
        radius = rng.uniform(0.014, 0.032)
        items.append(
            Instance(
                kind="ball",
                side=side,
                x=x,
                y=y,
                wide=radius,
                high=radius * rng.uniform(0.85, 1.15),
                angle=rng.uniform(0, 3),
                strength=rng.uniform(0.6, 1.0),
                zone=zone_of(v),
                size=_size(radius, 0.019, 0.026),
            )
        )
    return tuple(items)


def _atelectasis(rng: Random, body: Body) -> tuple[Instance, ...]:
    if rng.uniform() < 0.4:
        strength, wide = rng.uniform(0.6, 0.95), rng.uniform(0.12, 0.36)
        return (
            Instance(
                kind="wedge",
                side=_side(rng),
                wide=wide,
                high=rng.uniform(0.16, 0.26),
                strength=strength,
                seed=_seed(rng),
                zone="lower",
                size=_size(wide, 0.18, 0.28),
            ),
        )
    return tuple(_plate(rng, body, side) for side in _sides(rng, 0.25))


def _plate(rng: Random, body: Body, side: str) -> Instance:
    v = rng.uniform(0.55, 0.9)
    x, y = body.place(side, rng.uniform(0.5, 0.7), v)
    length = rng.uniform(0.12, 0.2)
    return Instance(
        kind="plate",
        side=side,
        x=x,
        y=y,
        wide=length,
        high=rng.uniform(0.012, 0.022),
        angle=rng.normal(0.0, 0.25),
        strength=rng.uniform(0.6, 1.0),
        zone=zone_of(v),
        size=_size(length, 0.14, 0.18),
    )


def _object(rng: Random, body: Body) -> tuple[Instance, ...]:
    kind = rng.choice(OBJECTS)
    if kind == "necklace":
        return (
            Instance(
                kind=kind,
                side="",
                x=body.center,
                y=rng.uniform(0.16, 0.26),
                wide=rng.uniform(0.09, 0.13),
                high=rng.uniform(0.006, 0.010),
            ),
        )
    radius = {"coin": 0.032, "button": 0.025, "surgical clip": 0.028, "safety pin": 0.036}[kind]
    count = rng.integer(2, 5) if kind in ("button", "surgical clip") else 1
    return tuple(_thing(rng, body, kind, radius) for _ in range(count))


def _thing(rng: Random, body: Body, kind: str, radius: float) -> Instance:
    side, v = _side(rng), rng.uniform(0.1, 0.95)
    x, y = body.place(side, rng.uniform(0.0, 0.9), v)
    return Instance(
        kind=kind,
        side=side,
        x=x,
        y=y,
        wide=radius * rng.uniform(0.85, 1.2),
        angle=rng.uniform(0, 3.14),
        zone=zone_of(v),
    )


_DRAW: dict[str, Callable[[Random, Body], tuple[Instance, ...]]] = {
    "consolidation": _consolidation,
    "pleural effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "nodule": _nodule,
    "atelectasis": _atelectasis,
    "foreign object": _object,
}


def draw_instances(rng: Random, finding: str, body: Body) -> tuple[Instance, ...]:
    """The instances of one finding in one chest, one or more."""
    return _DRAW[finding](rng, body)
