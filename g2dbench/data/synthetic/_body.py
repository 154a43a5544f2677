"""The patient of a synthetic radiograph: measures of the chest, and the curves they define.

Offsets are distances from the midline; right and left are the patient's, right at small x.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from g2dbench.data.synthetic._canvas import AXIS, Line, curve, lookup
from g2dbench.data.synthetic._random import Random
from g2dbench.system.arithmetic import interpolate


@dataclass(frozen=True, kw_only=True)
class Body:
    """Measures of a chest, in anatomy units.

    Attributes:
        center: x of the spine; width: offset of the widest point of the lungs; apex: y of the top
            of the lungs; dome_right, dome_left: y of the diaphragm's domes; skew: how much wider
            the right lung is.
        heart: half the width of the heart; heart_top: its upper end as a share of the lungs'
            height; heart_round: how broad it is at its upper end; heart_shift to the left;
            knob: size of the aortic knob; pedicle: half width of the mediastinum.
        girth: width of the torso; depth: thickness of the torso; breast: size, 0 for none.
        bone: density of bone; spacing: distance of ribs; slope: how steeply ribs fall.
        shrug: y of the clavicles; scapula: offset of the shoulder blade's inner edge.
        bubble: size of the gastric bubble; seed: fixes vessels and texture.
    """

    center: float
    width: float
    apex: float
    dome_right: float
    dome_left: float
    skew: float
    heart: float
    heart_top: float
    heart_round: float
    heart_shift: float
    knob: float
    pedicle: float
    girth: float
    depth: float
    breast: float
    bone: float
    spacing: float
    slope: float
    shrug: float
    scapula: float
    bubble: float
    seed: int

    @cached_property
    def lateral(self) -> Line:
        """Offset of the lungs' outer edge along y."""
        v = np.array([0, 0.025, 0.08, 0.16, 0.3, 0.5, 0.75, 1.0, 1.2])
        share = [0.36, 0.50, 0.61, 0.71, 0.83, 0.93, 0.99, 1.0, 0.97]
        return curve(self.apex + v * self.lung_height, [s * self.width for s in share])

    @cached_property
    def medial(self) -> Line:
        """Offset of the lungs' inner edge along y, next to spine and great vessels."""
        v = np.array([0, 0.03, 0.1, 0.25, 0.5, 0.8, 1.2])
        share = [0.36, 0.25, 0.19, 0.14, 0.11, 0.09, 0.09]
        return curve(self.apex + v * self.lung_height, [s * self.width for s in share])

    @cached_property
    def diaphragm(self) -> Line:
        """y of the diaphragm along x, both sides with their domes and angles."""
        offset = np.array([0.12, 0.28, 0.45, 0.62, 0.8, 0.92, 1.02]) * self.width
        drop = np.array([0.045, 0.012, 0.0, 0.008, 0.045, 0.09, 0.15])
        right = (-offset[::-1] * (1 + self.skew), self.dome_right + drop[::-1])
        left = (offset * (1 - self.skew), self.dome_left + drop)
        at = np.concatenate([right[0], left[0]]) + self.center
        return curve(list(at), list(np.concatenate([right[1], left[1]])))

    @property
    def lung_height(self) -> float:
        """Height of the lungs, from the apex to the mean of the domes."""
        return (self.dome_right + self.dome_left) / 2 - self.apex

    @cached_property
    def left_border(self) -> Line:
        """Offset of the mediastinum's left edge along y: knob, pulmonary trunk, ventricle."""
        reach, top, p = 1.34 * self.heart, self.heart_top, self.pedicle
        v = np.array([-0.2, 0.0, 0.1, 0.19, 0.27, 0.35, top, 0.62, 0.8, 0.93, 1.05, 1.2])
        waist = max(self.heart_round * reach, p * 1.15)
        upper = [0.045, 0.06, p * 0.95, p + self.knob, p * 1.02 + 0.4 * self.knob, p * 1.1, waist]
        offsets = [*upper, 0.5 * (waist + reach), 0.93 * reach, reach, 0.97 * reach, 0.8 * reach]
        return curve(self.apex + v * self.lung_height, [x + self.heart_shift for x in offsets])

    @cached_property
    def right_border(self) -> Line:
        """Offset of the mediastinum's right edge along y: caval vein, then the atrium."""
        reach, p = 0.66 * self.heart, self.pedicle
        v = np.array([-0.2, 0.0, 0.12, 0.35, self.heart_top + 0.05, 0.72, 0.87, 1.0, 1.2])
        waist = max(0.75 * reach, p * 0.85)
        offsets = [0.045, 0.06, p * 0.8, p * 0.82, waist, reach, 0.98 * reach, 0.88 * reach, 0.05]
        return curve(self.apex + v * self.lung_height, [x - self.heart_shift for x in offsets])

    @property
    def ratio(self) -> float:
        """Cardiothoracic ratio: width of the heart over the inner width of the chest."""
        return self.heart / self.width

    def sign(self, side: str) -> int:
        """-1 for the patient's right, 1 for the left."""
        return -1 if side == "right" else 1

    def place(self, side: str, u: float, v: float) -> tuple[float, float]:
        """A point of a lung: u from 0 inside to 1 outside, v from 0 at the apex to 1 at the base.

        v = 1 lies on the diaphragm below the point.
        """
        sign = self.sign(side)
        y = self.apex + v * self.lung_height
        for _ in range(2):
            inner, outer = lookup(self.medial, y), lookup(self.lateral, y)
            x = self.center + sign * (inner + u * (outer - inner)) * (1 - sign * self.skew)
            y = self.apex + v * (lookup(self.diaphragm, x) - self.apex)
        return x, y


def draw_body(rng: Random, *, sex: str, age: float, enlarged: bool) -> Body:
    """The chest of one patient; women are smaller, the old have paler bones and a wider aorta."""
    woman = sex == "F"
    width = float(np.clip(rng.normal(0.335 if woman else 0.355, 0.014), 0.29, 0.39))
    ratio = np.clip(rng.normal(0.565, 0.035), 0.52, 0.69) if enlarged else rng.normal(0.435, 0.028)
    dome = rng.normal(0.70, 0.03)
    stout = float(np.clip(rng.normal(0.5 + 0.002 * (age - 50), 0.2), 0.05, 1))
    return Body(
        center=0.5,
        width=width,
        apex=rng.normal(0.115, 0.012),
        dome_right=dome,
        dome_left=dome + rng.normal(0.025, 0.008),
        skew=rng.normal(-0.02, 0.012),
        heart=float(np.clip(ratio, 0.36, 0.69) if enlarged else np.clip(ratio, 0.36, 0.495))
        * width,
        heart_top=rng.normal(0.46, 0.025),
        heart_round=rng.normal(0.55, 0.06),
        heart_shift=rng.normal(0, 0.006),
        knob=float(np.clip(rng.normal(0.030 + 0.0004 * (age - 50), 0.005), 0.015, 0.06)),
        pedicle=rng.normal(0.062, 0.006),
        girth=rng.normal(0.44 if woman else 0.46, 0.012) + 0.05 * stout,
        depth=0.8 + 0.4 * stout + rng.normal(0, 0.04),
        breast=rng.uniform(0.35, 1.0) if woman else 0.0,
        bone=float(np.clip(1.05 - 0.005 * (age - 50) + rng.normal(0, 0.1), 0.6, 1.4)),
        spacing=rng.normal(0.072, 0.004),
        slope=rng.normal(0.10, 0.025),
        shrug=rng.normal(0.155, 0.015),
        scapula=rng.normal(1.0, 0.05),
        bubble=rng.uniform(0.3, 1.0) if rng.uniform() < 0.6 else 0.0,
        seed=rng.integer(0, 1 << 31),
    )


def lung_line(body: Body, *, drop: float, rim: float, reach: float) -> Line:
    """The outer edge of a lung that is collapsed from the chest wall, as an offset along y.

    Args:
        drop: distance of the apex from its normal height; rim: width of the gap below the apex;
            reach: the share of the lung's height down to which the gap extends.
    """
    v = (AXIS - body.apex) / body.lung_height
    height = body.lung_height
    fallen = body.apex + (AXIS - body.apex - drop) * height / max(height - drop, 1e-3)
    outer = interpolate(fallen, AXIS, body.lateral)
    taper = np.sqrt(np.clip(1 - v / reach, 0, 1))
    edge = np.minimum(outer, body.lateral) - rim * taper
    closed = np.where(fallen < body.apex, -1.0, edge)
    open_below = np.where(v > reach, body.lateral + 1.0, closed)
    return np.asarray(open_below)
