"""Draws the findings of a synthetic radiograph into the chest, and returns their masks.

Each function changes the maps of the `Chest` in place and returns the instance's mask, (S, S) bool.
Airless lung is drawn by removing air, so that it looks as dense as the tissue around it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from g2dbench.data.synthetic._anatomy import EDGE, Chest
from g2dbench.data.synthetic._body import Body, lung_line
from g2dbench.data.synthetic._canvas import Canvas, Map, curve, lattice, lookup, polyline, ramp
from g2dbench.data.synthetic._instances import Instance
from g2dbench.data.synthetic._random import Random
from g2dbench.system.arithmetic import direction, exp, spaced

Mask = NDArray[np.bool_]
Painter = Callable[[Canvas, Body, Chest, Instance], Mask]

BY_SIDES = np.ones((3, 3), dtype=bool)
"""Pixels are connected by sides and corners."""


def draw_finding(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Draw an instance and return its mask, without specks apart from its main parts."""
    mask = _PAINTERS[item.kind](canvas, body, chest, item)
    parts, count = ndimage.label(mask, BY_SIDES)
    if count < 2:
        return mask
    area = np.bincount(parts.ravel())[1:]
    return np.isin(parts, np.flatnonzero(area >= 0.15 * area.max()) + 1)


def _hemithorax(chest: Chest, side: str) -> Map:
    return chest.right if side == "right" else 1 - chest.right


def _covered(amount: Map) -> Mask:
    """Pixels that are at least half covered, or the best covered ones of a very thin object."""
    return np.asarray(amount > min(0.5, 0.6 * float(amount.max())))


def _patch(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Consolidation: a ragged cloud inside one lung, denser in its middle."""
    rng = Random(item.seed)
    ragged = lattice(rng.normals(0.6, 10, 10), canvas.size)
    ragged += lattice(rng.normals(0.32, 26, 26), canvas.size)
    inside = canvas.blob(item.x, item.y, item.wide * 1.15, item.high * 1.15, item.angle) + ragged
    field = chest.lung * _hemithorax(chest, item.side)
    cloud = ramp(inside - np.float32(0.1), 1.5) * _hemithorax(chest, item.side)
    mottle = np.clip(0.85 + lattice(rng.normals(0.2, 40, 40), canvas.size), 0.3, 1)
    chest.air *= 1 - np.float32(item.strength) * cloud * mottle
    mask = (inside > 0.1) & (field > 0.5) & (chest.heart < 0.5)
    near = canvas.blob(item.x, item.y, item.wide * 2, item.high * 2, item.angle) > 0
    return np.asarray(mask & near) if (mask & near).any() else _covered(cloud * field)


def _fluid(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Effusion: fluid from the costophrenic angle up, its surface rising along the wall."""
    sign = body.sign(item.side)
    angle = body.center + sign * body.width * (1 - sign * body.skew) * 0.98
    u = np.clip(chest.offset / chest.outer, 0, 1)
    surface = np.float32(lookup(body.diaphragm, angle) - item.high) + np.float32(item.wide) * (
        1 - u * u * u
    )
    field = chest.lung * _hemithorax(chest, item.side)
    full = ramp(canvas.y - surface, 0.022) * _hemithorax(chest, item.side)
    # A factor `field` would leave a line of air along the lung's soft edge.
    chest.air *= 1 - np.float32(item.strength) * full
    fluid = full * field
    chest.tissue += np.float32(0.25) * fluid
    return _covered(fluid * (chest.heart < 0.5))


def _air(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Pneumothorax: clear air outside a thin pleural line, no vessels in it."""
    edge = canvas.by_y(lung_line(body, drop=item.high, rim=item.wide, reach=item.y))
    field = chest.lung * _hemithorax(chest, item.side) * (chest.heart < 0.5)
    gap = ramp(chest.offset - edge, EDGE) * field
    near = exp(-np.square((chest.offset - edge) / np.float32(max(0.0035, 0.7 * canvas.pixel))))
    thin = min(1.0, 0.005 / canvas.pixel)
    collapsed = field * (1 - gap)
    chest.vessels *= 1 - gap
    chest.air *= 1 + gap * np.float32(0.10 * item.strength)
    chest.air *= 1 - collapsed * np.float32(1.6 * item.wide)
    chest.tissue += np.float32(0.4 * thin * item.strength) * near * field
    return _covered(gap)


def _ball(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Nodule: a ball of soft tissue."""
    inside = canvas.blob(item.x, item.y, item.wide, item.high, item.angle)
    soft = 3 * canvas.pixel / item.wide
    chest.tissue += ramp(inside, 0.35 + soft) * np.float32(0.38 + 0.35 * item.strength)
    return _covered(ramp(inside, soft))


def _plate(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Plate-like atelectasis: a slightly bowed band."""
    t = spaced(-0.5, 0.5, 10)
    along = np.array(direction(item.angle))
    bow = np.array([along[1], -along[0]]) * 0.08 * item.wide
    points = np.array([item.x, item.y]) + t[:, None] * item.wide * along
    points += (1 - 4 * np.square(t[:, None])) * bow
    amount = canvas.strokes(polyline(points, item.high, 1.0))
    amount *= _hemithorax(chest, item.side) * ramp(chest.lung - np.float32(0.3), 0.4)
    chest.tissue += np.float32(0.35 + 0.5 * item.strength) * amount
    return _covered(np.clip(amount, 0, 1))


def _wedge(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Lobar collapse: a dense triangle from the hilum down to the inner diaphragm."""
    border = body.left_border if item.side == "left" else body.right_border
    base = min(body.dome_right, body.dome_left) + 0.03
    reach = lookup(border, base) + item.wide * body.width
    slope = canvas.by_y(curve([base - item.high, base], [0.2 * body.width, reach]))
    field = chest.lung * _hemithorax(chest, item.side)
    full = ramp(slope - chest.offset, 0.02) * ramp(canvas.y - np.float32(base - item.high), 0.04)
    dense = full * field
    grain = np.clip(0.9 + lattice(Random(item.seed).normals(0.12, 18, 18), canvas.size), 0, 1)
    chest.air *= 1 - np.float32(item.strength) * full * _hemithorax(chest, item.side) * grain
    chest.tissue += np.float32(0.3 * item.strength) * dense
    return _covered(dense)


def _heart(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    """Cardiomegaly: the heart itself, drawn with the chest; its silhouette is the mask."""
    return _covered(chest.heart)


def _coin(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    disc = canvas.disc(item.x, item.y, item.wide)
    chest.tissue += np.float32(4.0) * disc
    return _covered(disc)


def _button(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    disc = canvas.disc(item.x, item.y, item.wide)
    rim = disc - canvas.disc(item.x, item.y, 0.72 * item.wide)
    solid = np.float32(1.4) * disc + np.float32(1.0) * rim
    dx, dy = direction(item.angle)
    for side in (0.35 * item.wide, -0.35 * item.wide):
        hole = canvas.disc(item.x + side * dx, item.y + side * dy, 0.004)
        solid = solid - np.float32(1.2) * hole
    chest.tissue += solid
    return _covered(disc)


def _metal(canvas: Canvas, chest: Chest, rods: NDArray[np.float64]) -> Mask:
    amount = canvas.strokes(rods)
    chest.tissue += np.float32(4.0) * np.clip(amount, 0, 1.2)
    return _covered(np.clip(amount, 0, 1))


def _clip(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    along = np.array(direction(item.angle)) * item.wide
    tip = np.array([item.x, item.y]) + along
    across = np.array([-along[1], along[0]]) * 0.25
    middle = np.array([item.x, item.y]) - along
    return _metal(
        canvas, chest, polyline(np.stack([tip + across, middle, tip - across]), 0.012, 1.0)
    )


def _pin(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    along = np.array(direction(item.angle)) * item.wide
    across = np.array([-along[1], along[0]]) * 0.35
    center = np.array([item.x, item.y])
    corners = [
        center - along,
        center + along,
        center + along + across,
        center - 0.9 * along + across,
    ]
    return _metal(canvas, chest, polyline(np.stack([*corners, center - along]), 0.010, 1.0))


def _necklace(canvas: Canvas, body: Body, chest: Chest, item: Instance) -> Mask:
    t = spaced(-1, 1, 30)
    cosh = (exp(1.5 * t) + exp(-1.5 * t)) / 2
    points = np.stack([item.x + item.wide * t, item.y - 0.16 * (cosh - 1) / 1.35], axis=1)
    chain = polyline(points, item.high, 0.7)
    pendant = np.array([[item.x, item.y, item.x, item.y + 0.025, 0.018, 1.0]])
    return _metal(canvas, chest, np.concatenate([chain, pendant]))


_PAINTERS: dict[str, Painter] = {
    "patch": _patch,
    "fluid": _fluid,
    "air": _air,
    "ball": _ball,
    "plate": _plate,
    "wedge": _wedge,
    "heart": _heart,
    "coin": _coin,
    "button": _button,
    "surgical clip": _clip,
    "safety pin": _pin,
    "necklace": _necklace,
}
