"""The content of a synthetic radiograph: patient, projection, findings and devices.

A scene is sampled from (seed, index) alone, in anatomy units (see `_canvas`), and does not depend
on the size of the image. Right and left are the patient's: right is at small x.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from g2dbench.data.synthetic._body import Body, draw_body
from g2dbench.data.synthetic._instances import Instance, draw_instances
from g2dbench.data.synthetic._random import Random
from g2dbench.system.arithmetic import exp_of

BLOCK = 12
_GROUPS = (
    (1, 2, 3, 1, 2, 3),
    (2, 1, 1, 3, 2, 1, 2),
    (1, 1, 2, 1, 3, 1, 2, 1),
    (3, 1, 2, 2, 1, 1, 1, 1),
    (2, 2, 1, 3, 3, 1),
    (1, 1, 1, 2, 1, 2, 1, 1, 2),
)
"""Ways to divide BLOCK consecutive images among patients with one to three images each."""

ACUTE = {
    "consolidation": 0.22,
    "pleural effusion": 0.22,
    "pneumothorax": 0.16,
    "nodule": 0.16,
    "atelectasis": 0.17,
    "foreign object": 0.15,
}
"""Weights for sampling the findings of an image; cardiomegaly is sampled per patient."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """How the image was taken: projection, position of the patient and exposure."""

    view: str
    tilt: float
    zoom: float
    shift: tuple[float, float]
    exposure: float
    contrast: float
    gamma: float
    scatter: float
    grain: float
    marker: str
    borders: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Device:
    """A support device, which is not a finding; `seed` determines its course."""

    kind: str
    side: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that an image and its report depend on; `key` is the seed of texture and words."""

    patient: str
    study: str
    sex: str
    age: float
    film: Film
    body: Body
    findings: Mapping[str, tuple[Instance, ...]]
    devices: tuple[Device, ...]
    key: tuple[int, int]


def patient_of(index: int, seed: int = 0) -> tuple[str, int, int]:
    """Return (patient, index of the first image of the patient, number of this image)."""
    block, place = divmod(index, BLOCK)
    rng = Random(seed, block, 1)
    groups = rng.shuffled(rng.choice(_GROUPS))
    start = max(s for s in accumulate(groups, initial=0) if s <= place)
    first = block * BLOCK + start
    return f"s{seed}-p{first:06d}", first, place - start


def split_of(patient: str) -> str:
    """The split of a patient: 70 % train, 10 % valid, 20 % test, by a hash of the name."""
    share = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") / (1 << 32)
    return "train" if share < 0.7 else "valid" if share < 0.8 else "test"


def draw_scene(index: int, seed: int = 0) -> Scene:
    """Return the scene of an index and a seed."""
    patient, first, visit = patient_of(index, seed)
    person = Random(seed, first, 2)
    sex = "F" if person.uniform() < 0.48 else "M"
    age = float(np.clip(np.round(person.normal(58, 18)), 18, 95))
    enlarged = person.uniform() < 0.12 + 0.14 * (age > 60)
    body = draw_body(person, sex=sex, age=age, enlarged=enlarged)
    rng = Random(seed, index, 3)
    view = "AP" if rng.uniform() < 0.2 + 0.3 * (age > 60) else "PA"
    body = _breathe(rng, body, view)
    names = _draw_names(rng)
    findings = {name: draw_instances(rng, name, body) for name in names}
    if enlarged:
        findings["cardiomegaly"] = (Instance(kind="heart", side=""),)
    return Scene(
        patient=patient,
        study=f"{patient}-{visit}",
        sex=sex,
        age=age,
        film=_draw_film(rng, view),
        body=_lose_volume(body, findings),
        findings=findings,
        devices=_draw_devices(rng, view, findings),
        key=(seed, index),
    )


def _draw_names(rng: Random) -> list[str]:
    """Sample the findings of an image: none in 42 % of the images, else one to three."""
    count = rng.choice([0, 1, 2, 3], [0.42, 0.25, 0.21, 0.12])
    return rng.sample(list(ACUTE), count, list(ACUTE.values()))


def _breathe(rng: Random, body: Body, view: str) -> Body:
    """Vary the patient between images: depth of inspiration, and magnification of AP films."""
    bedside = view == "AP"
    lift = rng.normal(0.03 if bedside else 0.0, 0.015)
    return replace(
        body,
        dome_right=body.dome_right - lift,
        dome_left=body.dome_left - lift + rng.normal(0, 0.004),
        heart=body.heart * (1.03 if bedside else 1.0) * rng.normal(1, 0.008),
        shrug=body.shrug - (0.025 if bedside else 0.0) + rng.normal(0, 0.008),
        scapula=body.scapula * (0.8 if bedside else 1.0),
        center=body.center + rng.normal(0, 0.008),
    )


def _lose_volume(body: Body, findings: Mapping[str, tuple[Instance, ...]]) -> Body:
    """A collapsed lobe draws the diaphragm up and the heart over."""
    for item in findings.get("atelectasis", ()):
        if item.kind == "wedge":
            towards = -1 if item.side == "right" else 1
            lift = {"right": "dome_right", "left": "dome_left"}[item.side]
            body = replace(
                body,
                heart_shift=body.heart_shift + 0.012 * towards,
                **{lift: getattr(body, lift) - 0.035},
            )
    return body


def _draw_film(rng: Random, view: str) -> Film:
    bedside = view == "AP"
    borders = np.where(rng.uniforms(0, 1, 4) < 0.12, rng.uniforms(0.01, 0.05, 4), 0.0)
    return Film(
        view=view,
        tilt=rng.normal(0, 0.045 if bedside else 0.022),
        zoom=float(np.clip(rng.normal(1.0, 0.065), 0.85, 1.16)),
        shift=(rng.normal(0, 0.022), rng.normal(0, 0.022)),
        exposure=exp_of(rng.normal(0, 0.14)),
        contrast=exp_of(rng.normal(0, 0.1)),
        gamma=exp_of(rng.normal(0.05 if bedside else 0.0, 0.14)),
        scatter=rng.uniform(0.1, 0.35) if bedside else rng.uniform(0.0, 0.15),
        grain=rng.uniform(1.0, 3.5) if bedside else rng.uniform(0.6, 2.0),
        marker=rng.choice(["", "L", "R", "L"]),
        borders=(float(borders[0]), float(borders[1]), float(borders[2]), float(borders[3])),
    )


def _draw_devices(
    rng: Random, view: str, findings: Mapping[str, tuple[Instance, ...]]
) -> tuple[Device, ...]:
    chance = {
        "ecg leads": 0.5,
        "central line": 0.3,
        "endotracheal tube": 0.2,
        "enteric tube": 0.22,
        "pacemaker": 0.1,
        "sternal wires": 0.12,
    }
    if view == "PA":
        chance = {"ecg leads": 0.05, "central line": 0.05, "pacemaker": 0.07, "sternal wires": 0.07}
    if "pneumothorax" in findings:
        chance["chest tube"] = 0.12
    drawn = [kind for kind, p in chance.items() if rng.uniform() < p]
    side = "left" if rng.uniform() < 0.8 else "right"
    sides = {"chest tube": findings["pneumothorax"][0].side} if "chest tube" in drawn else {}
    return tuple(
        Device(kind=kind, side=sides.get(kind, side), seed=rng.integer(0, 1 << 31))
        for kind in drawn
    )
