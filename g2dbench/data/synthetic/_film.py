"""Converts attenuation to gray values: devices, exposure, scatter, grain, borders, side marker."""

import math

import numpy as np
from numpy.typing import NDArray

from g2dbench.data.synthetic._anatomy import Chest
from g2dbench.data.synthetic._body import Body
from g2dbench.data.synthetic._canvas import Canvas, Map, bend, polyline
from g2dbench.data.synthetic._random import Random, grain
from g2dbench.data.synthetic._scene import Device, Film
from g2dbench.system.arithmetic import box_mean, exp, power, spaced

AIR = 1.62
"""The attenuation by which fully aerated lung is lower."""


def add_device(canvas: Canvas, body: Body, chest: Chest, device: Device) -> None:
    """Draw a support device into the chest; devices are not in any mask."""
    rng = Random(device.seed)
    rods, discs = _DEVICES[device.kind](rng, body, body.sign(device.side))
    if len(rods):
        chest.tissue += canvas.strokes(rods)
    for x, y, radius, weight in discs:
        chest.tissue += np.float32(weight) * canvas.disc(x, y, radius)


Parts = tuple[NDArray[np.float64], list[tuple[float, float, float, float]]]


def _ecg_leads(rng: Random, body: Body, sign: int) -> Parts:
    rods, discs = [], []
    for x, y in ((-0.24, 0.24), (0.24, 0.24), (-0.25, 0.66), (0.27, 0.68), (0.1, 0.62)):
        if rng.uniform() < 0.75:
            at = (body.center + x + rng.normal(0, 0.03), y + rng.normal(0, 0.03))
            end = (at[0] + rng.normal(0.1, 0.15), at[1] + rng.uniform(0.2, 0.5))
            pull = (at[0] + rng.normal(0.05, 0.1), at[1] + rng.uniform(-0.05, 0.25))
            rods.append(polyline(bend(at, pull, end), 0.004, 0.7))
            discs.append((at[0], at[1], 0.011, 0.9))
    return (np.concatenate(rods) if rods else np.empty((0, 6))), discs


def _central_line(rng: Random, body: Body, sign: int) -> Parts:
    c, tip = body.center, body.apex + rng.uniform(0.3, 0.5) * body.lung_height
    start = (c - rng.uniform(0.08, 0.2), rng.uniform(-0.05, 0.15))
    course = bend(start, (c - 0.05, 0.12), (c - 0.045, tip))
    return polyline(course, 0.006, 0.6), []


def _endotracheal_tube(rng: Random, body: Body, sign: int) -> Parts:
    c, tip = body.center - 0.006, body.apex + rng.uniform(0.08, 0.26) * body.lung_height
    walls = [
        polyline(np.array([[c + s, -0.1], [c + s, tip]]), 0.004, 0.55) for s in (-0.009, 0.009)
    ]
    return np.concatenate(walls), []


def _enteric_tube(rng: Random, body: Body, sign: int) -> Parts:
    c, floor = body.center + 0.008, body.dome_left
    down = polyline(np.array([[c, -0.1], [c + 0.004, 0.4], [c + 0.02, floor]]), 0.006, 0.6)
    end = (c + 0.12 + rng.uniform(0, 0.06), floor + rng.uniform(0.1, 0.2))
    turn = polyline(bend((c + 0.02, floor), (c + 0.04, floor + 0.12), end), 0.006, 0.6)
    return np.concatenate([down, turn]), []


def _pacemaker(rng: Random, body: Body, sign: int) -> Parts:
    x, y = body.center + sign * rng.uniform(0.22, 0.27), rng.uniform(0.22, 0.27)
    case = np.array([[x - 0.028, y, x + 0.028, y + 0.01, 0.062, 3.0]])
    vein = bend((x, y - 0.02), (body.center + sign * 0.1, y - 0.1), (body.center - 0.04, y + 0.04))
    tip = (body.center + 0.6 * body.heart, body.dome_left - 0.03)
    lead = bend((body.center - 0.04, y + 0.04), (body.center - 0.08, tip[1] - 0.02), tip)
    rods = [case, polyline(vein, 0.005, 0.9), polyline(lead, 0.005, 0.9)]
    return np.concatenate(rods), []


def _sternal_wires(rng: Random, body: Body, sign: int) -> Parts:
    c, rods = body.center + rng.normal(0, 0.006), []
    for y in spaced(0.3, 0.62, rng.integer(4, 7)):
        w, y = 0.017, y + rng.normal(0, 0.006)
        loop = np.array([[c - w, y], [c, y - 0.012], [c + w, y], [c, y + 0.012], [c - w, y]])
        rods.append(polyline(loop, 0.004, 1.2))
    return np.concatenate(rods), []


def _chest_tube(rng: Random, body: Body, sign: int) -> Parts:
    start = (body.center + sign * (body.width + 0.12), rng.uniform(0.55, 0.75))
    tip = (body.center + sign * rng.uniform(0.15, 0.22), rng.uniform(0.2, 0.35))
    course = bend(start, (body.center + sign * body.width * 0.9, 0.5), tip)
    return polyline(course, 0.012, 0.5), []


_DEVICES = {
    "ecg leads": _ecg_leads,
    "central line": _central_line,
    "endotracheal tube": _endotracheal_tube,
    "enteric tube": _enteric_tube,
    "pacemaker": _pacemaker,
    "sternal wires": _sternal_wires,
    "chest tube": _chest_tube,
}


def develop(canvas: Canvas, chest: Chest, film: Film, key: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the radiograph of a chest, (S, S) uint8; dense tissue is bright."""
    air = np.clip(chest.air, 0, 1.1)
    dense = chest.tissue + chest.vessels * air - np.float32(AIR) * air
    dense = np.clip(dense, 0, None) * np.float32(film.exposure)
    low = box_mean(dense, max(3, canvas.size // 7))
    dense = dense + np.float32(film.scatter) * (low - dense)
    gray = 1 - exp(-np.float32(0.82 * film.contrast) * dense)
    gray = power(np.clip(gray, 0, 1), film.gamma)
    # Averaging n pixels reduces noise: a small image has less grain than a large one.
    coarse = film.grain / 255 * math.sqrt(min(1.0, canvas.size / 256))
    noise = grain(gray.shape, *key, 5, canvas.size)
    gray = np.float32(0.02) + np.float32(0.96) * gray + np.float32(coarse) * noise
    _mark(gray, film)
    return np.asarray(np.clip(gray * 255, 0, 255).astype(np.uint8))


_LETTERS = {
    "L": ((0, 0, 0, 2), (0, 2, 1, 2)),
    "R": ((0, 0, 0, 2), (0, 0, 1, 0), (1, 0, 1, 1), (1, 1, 0, 1), (0, 1, 1, 2)),
}


def _mark(gray: Map, film: Film) -> None:
    """Collimator borders in black, and the side's letter, in film coordinates."""
    size = len(gray)
    top, bottom, left, right = (round(b * size) for b in film.borders)
    if film.marker:
        plain = Canvas(size, tilt=0.0, zoom=1.0, shift=(0.0, 0.0))
        x, y = (0.91 if film.marker == "L" else 0.06), 0.07
        lines = np.array(_LETTERS[film.marker]).reshape(-1, 2, 2) * 0.017
        rods = np.concatenate([polyline(line + np.array([x, y]), 0.006, 1.0) for line in lines])
        gray += np.float32(0.9) * np.clip(plain.strokes(rods), 0, 1)
    gray[:top], gray[size - bottom :] = 0.01, 0.01
    gray[:, :left], gray[:, size - right :] = 0.01, 0.01
