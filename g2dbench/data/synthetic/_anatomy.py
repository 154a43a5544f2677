"""Draws the normal chest of a synthetic radiograph, as maps of attenuation.

Maps are (S, S) float32. Attenuation adds up along the ray (Beer and Lambert): soft tissue and
bone add to it, air reduces it. `_film` converts attenuation to gray values.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.synthetic._body import Body
from g2dbench.data.synthetic._canvas import Canvas, Line, Map, bend, curve, lattice, polyline, ramp
from g2dbench.data.synthetic._random import Random
from g2dbench.system.arithmetic import exp, power, sine_cosine, spaced

EDGE = 0.008
"""Width of an anatomical edge."""


@dataclass(kw_only=True)
class Chest:
    """Maps of the chest, which findings change and `develop` adds up.

    Attributes:
        tissue: soft tissue and bone; air: 0..1, how much of the ray is aerated lung.
        lung: 0..1 inside the lungs' outline down to the diaphragm, heart included.
        heart: 0..1 inside the heart's silhouette; vessels: added where there is air.
        offset: distance from the midline; inner, outer: edges of the lung as offsets.
        floor: y of the diaphragm; right: which pixels lie on the patient's right.
    """

    tissue: Map
    air: Map
    lung: Map
    heart: Map
    vessels: Map
    offset: Map
    inner: Map
    outer: Map
    floor: Map
    right: Map


def draw_chest(canvas: Canvas, body: Body) -> Chest:
    """The chest without findings."""
    signed = canvas.x - np.float32(body.center)
    right = (signed < 0).astype(np.float32)
    offset = np.abs(signed) / (1 - np.sign(signed) * np.float32(body.skew))
    inner, outer = canvas.by_y(body.medial), canvas.by_y(body.lateral)
    floor = canvas.by_x(body.diaphragm)
    above = ramp(floor - canvas.y, 2.5 * EDGE) * ramp(canvas.y - np.float32(body.apex), EDGE)
    lung = ramp(outer - offset, EDGE) * ramp(offset - inner, EDGE) * above
    silhouette, heart = _mediastinum(canvas, body, signed, floor)
    across = np.clip((offset - inner) / (outer - inner + np.float32(1e-3)), 0, 1)
    depth = np.float32(0.72) + np.float32(0.28) * np.sqrt(across * (1 - across)) * 2
    chest = Chest(
        tissue=_torso(canvas, body, signed),
        air=lung * depth * (1 - np.float32(0.93) * silhouette),
        lung=lung,
        heart=heart,
        vessels=_vessels(canvas, body),
        offset=offset,
        inner=inner,
        outer=outer,
        floor=floor,
        right=right,
    )
    low = canvas.by_y(curve([0.3, 0.9], [0.0, 0.35]))
    chest.tissue += silhouette * (np.float32(0.12) + low * heart)
    chest.tissue += _ribs(canvas, body, chest) + _spine(canvas, body, signed)
    chest.tissue += _shoulders(canvas, body, signed) + _belly(canvas, body)
    return chest


def _torso(canvas: Canvas, body: Body, signed: Map) -> Map:
    """Neck, shoulders and trunk as a flat cylinder, with breasts and uneven fat."""
    g = body.girth
    at = [-0.1, 0.0, 0.05, 0.1, 0.17, 0.26, 0.42, 0.6, 0.8, 1.1]
    width = [0.12, 0.125, 0.18, 0.36, g + 0.07, g + 0.14, g + 0.12, g + 0.03, g + 0.01, g + 0.05]
    half = canvas.by_y(curve(at, width))
    rim = power(np.clip(1 - np.square(signed / half), 0, 1), 0.42)
    thick = canvas.by_y(curve([0.0, 0.12, 0.3, 0.65, 0.85, 1.0], [1.5, 1.75, 2.05, 2.15, 2.6, 2.9]))
    grain = lattice(Random(body.seed).normals(0.035, 7, 7), canvas.size)
    torso = rim * thick * np.float32(body.depth) * (1 + grain)
    if body.breast:
        torso += _breasts(canvas, body)
    return np.asarray(torso, dtype=np.float32)


def _breasts(canvas: Canvas, body: Body) -> Map:
    b = body.breast
    total = np.zeros_like(canvas.x)
    for sign in (-1, 1):
        x, y = body.center + sign * 0.205, 0.55 + 0.07 * b
        fill = canvas.blob(x, y, 0.12 + 0.05 * b, 0.10 + 0.06 * b, 0.2 * sign)
        lower = canvas.by_y(curve([y - 0.15, y + 0.08], [0.1, 1.0]))
        total += np.sqrt(np.clip(fill, 0, 1)) * lower
    return np.asarray(total * np.float32(0.22 + 0.32 * b), dtype=np.float32)


def _mediastinum(canvas: Canvas, body: Body, signed: Map, floor: Map) -> tuple[Map, Map]:
    """Silhouettes of heart with great vessels, and of the heart alone."""
    left = ramp(canvas.by_y(body.left_border) - signed, EDGE)
    whole = left * ramp(canvas.by_y(body.right_border) + signed, EDGE)
    top = np.float32(body.apex + (body.heart_top - 0.03) * body.lung_height)
    arch = top + np.float32(0.25) * np.abs(signed - np.float32(0.02))
    heart = (
        whole * ramp(canvas.y - arch, 2 * EDGE) * ramp(floor + np.float32(0.01) - canvas.y, EDGE)
    )
    return whole, heart


def _ribs(canvas: Canvas, body: Body, chest: Chest) -> Map:
    """Posterior ribs slope down outwards, anterior ones up; the chest wall is seen edge-on."""
    u = chest.offset / (chest.outer + np.float32(0.014))
    inside = ramp(1 - u, 0.03)
    s = np.float32(body.spacing)
    bow = np.float32(body.slope) * (u * u * u * np.float32(1.1) - np.float32(0.25) * u)
    back = (canvas.y - np.float32(body.apex) - bow) / s
    back_rib = _band(back, 0.17, 8 * canvas.pixel + 0.06) * ramp(u - np.float32(0.1), 0.05)
    rise = (1 - u) * (np.float32(body.slope + 0.06) + np.float32(0.16) * (1 - u))
    front = (canvas.y - np.float32(body.apex + 0.55 * body.spacing) - rise) / s
    seen = ramp(u - np.float32(0.42), 0.2) * ramp(canvas.y - np.float32(body.apex + 0.1), 0.1)
    front_rib = _band(front, 0.2, 8 * canvas.pixel + 0.08) * seen
    top = ramp(canvas.y - np.float32(body.apex - 0.02), 0.02)
    # Below the diaphragm, soft tissue and scatter hide the ribs.
    top = top * (np.float32(0.3) + np.float32(0.7) * ramp(chest.floor - canvas.y, 0.2))
    shade = (back_rib * np.float32(0.24) + front_rib * np.float32(0.14)) * inside * top
    wall = exp(-np.square((chest.offset - chest.outer - np.float32(0.008)) / np.float32(0.009)))
    wall *= ramp(canvas.y - np.float32(body.apex), 0.1)
    return np.asarray((shade + np.float32(0.2) * wall) * np.float32(body.bone), dtype=np.float32)


def _band(phase: NDArray[np.floating], half: float, soft: float) -> Map:
    """A band around each integer value of `phase`, with rims denser than its center."""
    away = np.abs(phase - np.rint(phase)).astype(np.float32)
    core = ramp(np.float32(half) - away, soft)
    dense = np.float32(0.65) + np.float32(0.55) * np.square(away / np.float32(half))
    return np.asarray(core * dense)


def _spine(canvas: Canvas, body: Body, signed: Map) -> Map:
    """Vertebrae with their discs, less dense with age, and the air of trachea and main bronchi."""
    width = canvas.by_y(curve([-0.1, 0.1, 1.0], [0.028, 0.031, 0.042]))
    away = np.abs(signed)
    column = ramp(width - away, 0.008)
    level = canvas.y / np.float32(body.spacing * 0.82)
    disc = np.abs(level - np.floor(level) - np.float32(0.5))
    bone = column * (np.float32(0.34) - np.float32(0.16) * ramp(disc - np.float32(0.40), 0.08))
    pedicle = exp(-np.square((away - np.float32(0.021)) / np.float32(0.006)))
    bone += pedicle * ramp(np.float32(0.25) - disc, 0.1) * np.float32(0.10)
    bone += ramp(np.float32(0.006) - away, 0.006) * np.float32(0.10)
    return np.asarray(bone * np.float32(body.bone) - _airway(canvas, body), dtype=np.float32)


def _airway(canvas: Canvas, body: Body) -> Map:
    c, fork = body.center - 0.004, body.apex + 0.32 * body.lung_height
    tube = polyline(np.array([[c, -0.12], [c - 0.004, fork]]), 0.030, 0.55)
    right = polyline(
        bend((c - 0.004, fork), (c - 0.03, fork + 0.03), (c - 0.06, fork + 0.08)), 0.02, 0.3
    )
    left = polyline(
        bend((c - 0.004, fork), (c + 0.04, fork + 0.03), (c + 0.08, fork + 0.06)), 0.018, 0.3
    )
    return canvas.strokes(np.concatenate([tube, right, left]))


def _shoulders(canvas: Canvas, body: Body, signed: Map) -> Map:
    """Collar bones, upper arms with their heads, and shoulder blades."""
    c, y, rods = body.center, body.shrug, []
    heads = np.zeros_like(canvas.x)
    for sign in (-1, 1):
        ends = [(0.038, 0.035), (0.10, 0.0), (0.19, -0.002), (0.28, -0.006), (0.35, -0.026)]
        at = [(c + sign * dx, y + dy) for dx, dy in ends]
        course = np.concatenate([bend(*at[:3]), bend(*at[2:])[1:]])
        rods.append(polyline(course, 0.028, 0.34))
        rods.append(polyline(course + np.array([0, 0.012]), 0.006, 0.12))
        head, elbow = (c + sign * 0.425, y + 0.045), (c + sign * 0.53, y + 0.5)
        rods.append(polyline(np.array([head, elbow]), 0.045, 0.33))
        heads += np.sqrt(np.clip(canvas.blob(*head, 0.042, 0.045), 0, 1)) * np.float32(0.25)
    total = canvas.strokes(np.concatenate(rods)) + heads + _blades(canvas, body, signed)
    return np.asarray(total * np.float32(body.bone), dtype=np.float32)


def _blades(canvas: Canvas, body: Body, signed: Map) -> Map:
    away, y, low = np.abs(signed), body.shrug, body.shrug + 0.30
    near = canvas.by_y(
        curve([y, low - 0.03, low], [0.31 * body.scapula, 0.36 * body.scapula, 0.40])
    )
    far = canvas.by_y(curve([y, y + 0.08, low], [0.43, 0.42, 0.40]))
    here = ramp(canvas.y - np.float32(y - 0.01), 0.02) * ramp(np.float32(low) - canvas.y, 0.02)
    blade = ramp(away - near, 0.006) * ramp(far - away, 0.006) * here
    border = exp(-np.square((away - far) / np.float32(0.008))) * here
    return np.asarray(blade * np.float32(0.12) + border * np.float32(0.2), dtype=np.float32)


def _belly(canvas: Canvas, body: Body) -> Map:
    """Gas in the stomach under the left dome, and some in the bowel."""
    rng = Random(body.seed + 1)
    total = np.zeros_like(canvas.x)
    if body.bubble:
        x, y = body.center + 0.5 * body.width, body.dome_left + 0.055
        gas = canvas.blob(x, y, 0.035 + 0.035 * body.bubble, 0.016 + 0.02 * body.bubble, -0.2)
        total -= ramp(gas, 0.6) * np.float32(1.3)
    for _ in range(rng.integer(0, 4)):
        x, y = body.center + rng.uniform(-0.3, 0.35), rng.uniform(0.9, 1.02)
        gas = canvas.blob(
            x, y, rng.uniform(0.02, 0.06), rng.uniform(0.015, 0.035), rng.uniform(-1, 1)
        )
        total -= ramp(gas, 0.8) * np.float32(rng.uniform(0.4, 1.0))
    return np.asarray(total, dtype=np.float32)


def _vessels(canvas: Canvas, body: Body) -> Map:
    """Pulmonary vessels branching from both hila, thinner towards the edge."""
    rng = Random(body.seed + 2)
    sign = np.repeat([-1.0, 1.0], 13)
    hilum = np.stack(
        [
            body.center + sign * (0.085 + 0.02 * (sign > 0)),
            body.apex + np.where(sign < 0, 0.45, 0.41) * body.lung_height,
        ],
        axis=1,
    )
    start = hilum + rng.normals(1.0, *hilum.shape) * [0.012, 0.03]
    angle = np.tile(spaced(-1.45, 1.5, 13), 2) + rng.normals(0.1, 26)
    rods = _branches(rng, start, angle, sign, rng.uniforms(0.006, 0.011, 26))
    level = np.ones(26)
    trunk = np.array([[-0.008, -0.04, 0.014, 0.075]]) * np.stack([sign, level, sign, level], 1)
    ends = np.tile(hilum, 2) + trunk
    stems = np.column_stack([ends, np.full(26, 0.030), np.full(26, 0.013)])
    return canvas.strokes(np.concatenate([rods, stems]))


def _branches(
    rng: Random, start: Line, angle: Line, sign: Line, width: Line
) -> NDArray[np.float64]:
    """Vessels of 8 pieces that bend at random, and their side branches while they are wide enough.

    Args:
        start: (n, 2); angle: (n,) above the outward direction; sign: (n,) side; width: (n,).
    """
    pieces, twigs, at = [], [], start
    for _ in range(8):
        angle = angle + rng.normals(0.14, len(at))
        reach = rng.uniforms(0.03, 0.05, len(at)) * (0.7 + 35 * width)
        sine, cosine = sine_cosine(angle)
        step = at + reach[:, None] * np.stack([sign * cosine, sine], axis=1)
        pieces.append(np.column_stack([at, step, width, 30 * width]))
        fork = (width > 0.004) & (rng.uniforms(0, 1, len(at)) < 0.5)
        turn = rng.signs(len(at)) * rng.uniforms(0.35, 0.8, len(at))
        twigs.append((step[fork], (angle + turn)[fork], sign[fork], width[fork] * 0.6))
        at, width = step, width * 0.86
    if sum(len(twig[0]) for twig in twigs):
        pieces.append(_branches(rng, *(np.concatenate(part) for part in zip(*twigs, strict=True))))
    return np.concatenate(pieces)
