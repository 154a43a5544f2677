"""Writes the reports of synthetic radiographs from their scenes.

A report never denies a finding that is present and never affirms one that is absent, but it may
hedge, and it may omit a finding, as the reports of real data sets do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from g2dbench.data.synthetic import _impressions as summaries
from g2dbench.data.synthetic import _phrases as words
from g2dbench.data.synthetic._instances import Instance
from g2dbench.data.synthetic._random import Random
from g2dbench.data.synthetic._scene import Scene

SILENT, HEDGED = 0.08, 0.08
"""Probabilities that a present finding is omitted, and that it is hedged."""

LIMITS = (3, 7)
"""Usual limits of the sentences in the findings section; more if the findings need more."""

_LOBES = {
    ("right", "upper"): "the right upper lobe",
    ("right", "mid"): "the right middle lobe",
    ("right", "lower"): "the right lower lobe",
    ("left", "upper"): "the left upper lobe",
    ("left", "mid"): "the lingula",
    ("left", "lower"): "the left lower lobe",
}


@dataclass
class _Draft:
    """The sentences of both sections so far."""

    findings: list[str] = field(default_factory=list)
    impression: list[str] = field(default_factory=list)


def write_report(scene: Scene) -> str:
    """The report of a scene: "Findings: ... Impression: ..."."""
    rng = Random(*scene.key, 4)
    draft = _Draft()
    silent = [name for name in scene.findings if rng.uniform() < SILENT]
    for name, items in scene.findings.items():
        if name not in silent:
            _affirm(rng, draft, name, items, scene)
    for device in scene.devices:
        if rng.uniform() < 0.75:
            draft.findings.append(rng.choice(words.DEVICES[device.kind]).format(side=device.side))
    absent = [name for name in words.NEGATIVE if name not in scene.findings]
    _deny(rng, draft, absent)
    spare = rng.shuffled(words.NORMAL)
    wanted = min(len(draft.findings) + rng.integer(1, 3), LIMITS[1])
    while len(draft.findings) < max(wanted, LIMITS[0]):
        draft.findings.append(spare.pop())
    draft.findings = rng.shuffled(draft.findings)
    _conclude(rng, draft, scene)
    return f"Findings: {_prose(draft.findings)} Impression: {_prose(draft.impression)}"


def sections(report: str) -> tuple[str, str]:
    """Split a synthetic report into findings and impression, without their headings."""
    findings, impression = report.removeprefix("Findings: ").split(" Impression: ")
    return findings, impression


def _prose(sentences: Sequence[str]) -> str:
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _affirm(rng: Random, draft: _Draft, name: str, items: Sequence[Instance], scene: Scene) -> None:
    """One sentence of findings, and mostly one of impression, on a finding that is present."""
    fields = _fields(rng, name, items, scene)
    hedged = rng.uniform() < HEDGED
    said = words.UNCERTAIN if hedged else words.POSITIVE
    draft.findings.append(rng.choice(said[name]).format(**fields))
    if len(draft.impression) < 3 and rng.uniform() < 0.85:
        summary = summaries.SUMMARY_UNCERTAIN if hedged else summaries.SUMMARY
        draft.impression.append(rng.choice(summary[name]).format(**fields))


def _fields(rng: Random, name: str, items: Sequence[Instance], scene: Scene) -> dict[str, str]:
    """Values of the template fields for the instances of a finding."""
    order = ("small", "moderate", "large")
    size = max((item.size for item in items), key=order.index)
    if name == "cardiomegaly":
        ratio = scene.body.ratio
        size = "small" if ratio < 0.55 else "large" if ratio > 0.6 else "moderate"
    sides = {item.side for item in items}
    return {
        "size": rng.choice(words.SIZES[size] if name != "nodule" else (size,)),
        "size_adverb": words.ADVERBS[size],
        "side": "bilateral" if len(sides) > 1 else next(iter(sides)),
        "zone": " and ".join(dict.fromkeys(item.zone for item in items)),
        "where": _where(rng, name, items),
        "kind": items[0].kind,
    }


def _where(rng: Random, name: str, items: Sequence[Instance]) -> str:
    """The location in words: a lobe or a zone, or both lungs for several instances."""
    places = list(dict.fromkeys((item.side, item.zone) for item in items))
    if places[0][0] == "":
        return "the lower neck and upper chest"
    if len({side for side, _ in places}) > 1 and (len(places) > 2 or rng.uniform() < 0.3):
        return "both lungs"
    lobes = name != "foreign object" and rng.uniform() < 0.4
    names = [_LOBES[place] if lobes else "the {} {} lung zone".format(*place) for place in places]
    return " and ".join(names)


def _deny(rng: Random, draft: _Draft, absent: Sequence[str]) -> None:
    """Add sentences that deny some absent findings, several at once if possible."""
    left = [name for name in absent if rng.uniform() < (0.2 if name == "foreign object" else 0.62)]
    for names, phrases in reversed(words.JOINT_NEGATIVE):
        fits = all(name in absent for name in names)
        if fits and any(name in left for name in names) and rng.uniform() < 0.5:
            draft.findings.append(rng.choice(phrases))
            left = [name for name in left if name not in names]
    for name in left:
        if len(draft.findings) < LIMITS[1] - 1:
            draft.findings.append(rng.choice(words.NEGATIVE[name]))


def _conclude(rng: Random, draft: _Draft, scene: Scene) -> None:
    """Add the impression: affirmed findings, sometimes a denial, or a normal chest."""
    if not scene.findings:
        draft.impression.append(rng.choice(summaries.ALL_NORMAL))
    elif not draft.impression:
        draft.impression.append(rng.choice(summaries.NEUTRAL))
    elif len(draft.impression) < 3 and rng.uniform() < 0.3:
        absent = [n for n in words.NEGATIVE if n not in scene.findings and n != "foreign object"]
        draft.impression.append(rng.choice(words.NEGATIVE[rng.choice(absent)]))
