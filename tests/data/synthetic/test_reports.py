"""Reports of synthetic radiographs: consistent with the image, varied, and hedged."""

import re
from collections import defaultdict

import numpy as np

from g2dbench.data.synthetic._report import sections, write_report
from g2dbench.data.synthetic.synthetic import CARD, generate

MENTIONS = {
    "consolidation": r"consolidat|pneumonia|airspace|infiltrat",
    "pleural effusion": r"effusion|pleural fluid|costophrenic",
    "pneumothorax": r"pneumothorax",
    "nodule": r"nodul",
    "cardiomegaly": r"heart|cardiac|cardiomegaly|cardiomediastinal",
    "atelectasis": r"atelecta|collapse|volume loss",
    "foreign object": r"foreign|coin|button|necklace|clip|safety pin",
}


DENIAL = re.compile(
    r"^no |there is no |^negative|without |within normal limits|is normal|normal in size"
    r"|heart size normal|not enlarged|angles are sharp|are clear|and clear|^clear lungs"
)


DOUBT = re.compile(r"possible|may represent|cannot be excluded|not excluded|questionable|suspected")


LUCENCY = "lucency without vascular markings"


def stances(report):
    """Finding -> set of "yes", "no", "doubt" that the sentences of a report take."""
    found = defaultdict(set)
    for sentence in re.split(r"(?<=\.) ", " ".join(sections(report)).lower()):
        plain = sentence.replace(LUCENCY, "lucency")
        kind = "doubt" if DOUBT.search(plain) else "no" if DENIAL.search(plain) else "yes"
        names = [name for name, words in MENTIONS.items() if re.search(words, plain)]
        if kind == "no" and re.search(r"lungs.* clear|^clear lungs", plain):
            names = [name for name in MENTIONS if name not in ("cardiomegaly", "foreign object")]
        for name in names:
            found[name].add(kind)
    return found


def test_reports_never_contradict_the_image(scenes):
    silent = present = doubted = 0
    for scene in scenes:
        said = stances(write_report(scene))
        for finding in CARD.findings:
            stance = said.get(finding, set())
            if finding in scene.findings:
                assert "no" not in stance, (finding, write_report(scene))
                present += 1
                silent += not stance
                doubted += stance == {"doubt"}
            else:
                assert stance <= {"no"}, (finding, write_report(scene))
    assert 0.04 < silent / present < 0.13
    assert 0.04 < doubted / present < 0.13


def test_reports_of_findings_do_not_call_the_chest_normal(scenes):
    for scene in scenes:
        impression = sections(write_report(scene))[1].lower()
        overall = re.search(r"normal chest|no acute (cardio|disease)|other acute", impression)
        assert bool(overall) == (not scene.findings)


def test_reports_vary_and_are_as_long_as_real_ones(scenes):
    reports = [write_report(scene) for scene in scenes]
    counts = [len(sections(report)[0].split(". ")) for report in reports]
    assert len(set(reports)) > 0.97 * len(scenes)
    assert 30 < np.median([len(report.split()) for report in reports]) < 55
    assert min(counts) >= 3
    assert np.mean([count <= 7 for count in counts]) > 0.95
    assert sum("pneumonia" in report.lower() for report in reports) > 0.2 * len(scenes)
    assert not any("{" in report or "  " in report for report in reports)


def test_side_in_the_report_is_the_patients_side(scenes):
    for scene in scenes:
        for item in scene.findings.get("pneumothorax", ()):
            said = re.findall(r"[^.]*pneumothorax[^.]*\.", write_report(scene), re.IGNORECASE)
            other = "left" if item.side == "right" else "right"
            assert not any(other in sentence.lower() for sentence in said)
    sides = [
        (s, s.findings["pneumothorax"][0].side) for s in scenes if "pneumothorax" in s.findings
    ]
    for scene, side in sides[:6]:
        columns = np.nonzero(generate(scene.key[1], 64).masks["pneumothorax"])[1]
        assert (columns.mean() < 32) == (side == "right")
