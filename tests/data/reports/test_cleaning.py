"""Report cleanings and the section parser, compared with golden outputs of the original code.

The golden texts are the output of HKU-MedAI/MGCA at 680fe4a, cheliu-computation/G2D-NeurIPS24 at
30364bd and rajpurkarlab/CheXzero at 5c341db for these invented reports.
"""

import hashlib
import json
from typing import get_args

import pytest

from g2dbench.data.readers import open_i
from g2dbench.data.reports.cleaning import (
    CLEANINGS,
    KEPT,
    NO_SECTION,
    NOTHING_LEFT,
    OTHER_VIEW,
    TOO_SHORT,
    CleaningName,
    clean,
    count_pairs,
    describe_steps,
)
from g2dbench.data.reports.sections import parse_sections
from g2dbench.data.reports.tidy import clean_report
from g2dbench.recipes import recipe as recipes


def as_report_file(text: str) -> str:
    """A report in the format of MIMIC-CXR: every line begins with a space, empty lines too."""
    return "".join(f" {line}\n" for line in text.splitlines()[1:])


FILE = as_report_file("""
FINAL REPORT
EXAMINATION:  CHEST (PA AND LAT)

INDICATION:  ___F with cough  // eval for pneumonia

COMPARISON:  ___

FINDINGS:

Heart size is 3.5 cm above normal.  Calcified na\u00efve nodule.
No pneumothorax. Clear.

IMPRESSION:

1. No acute disease.
2. Stable mass (see ___).
""")
ADDENDUM = as_report_file("""
FINAL REPORT
FINDINGS:  Old text of the first read.

IMPRESSION:  Old impression.

ADDENDUM:

FINDINGS:

FINDINGS AND IMPRESSION:  New opacity 12. 4. Edema COMPARISON none.

RECOMMENDATION(S):  CT of the chest.

NOTIFICATION:  Told by phone.
""")
STUDY_HEADING = as_report_file("""
WET READ: ___ 3:14 PM
 Bad film.

PORTABLE CHEST, AP:  One tube. FINDINGS improved
""")
PARAGRAPH = as_report_file("""
FINAL REPORT
HISTORY:  Fall.

The lungs are clear.  No fracture.
""")
SHORT = as_report_file("""
FINAL REPORT

IMPRESSION:  Normal chest.
""")
NO_HEADING = as_report_file("\nFINAL REPORT\nNothing is headed here, lungs clear.\n")
EMPTY = as_report_file("\nFINAL REPORT\n\nIMPRESSION:  \n\n")

SECTIONS = {
    FILE: {
        "impression": "1. No acute disease.\n 2. Stable mass (see ___).",
        "findings": "Heart size is 3.5 cm above normal.  Calcified na\u00efve nodule.\n"
        " No pneumothorax. Clear.",
        "comparison": "___",
    },
    ADDENDUM: {
        "impression": "New opacity 12. 4. Edema COMPARISON none.",
        "findings": "Old text of the first read.",
    },
    STUDY_HEADING: {"findings": "One tube. FINDINGS improved"},
    PARAGRAPH: {"last_paragraph": "The lungs are clear.  No fracture."},
    SHORT: {"impression": "Normal chest."},
    NO_HEADING: {},
    EMPTY: {"last_paragraph": ""},
}
"""The last section of each name in the output of the original `section_text`."""

GOLDEN = {
    (
        "mgca",
        FILE,
    ): "no acute disease stable mass see ___ heart size is 5 cm above normal calcified "
    "nave nodule no pneumothorax",
    ("mgca", ADDENDUM): "new opacity edema comparison none old text of the first read",
    ("mgca", STUDY_HEADING): "one tube findings improved",
    ("g2d-code", FILE): "No acute disease. Stable mass (see ___). Heart size is 3. 5 cm above "
    "normal. Calcified na\u00efve nodule. No pneumothorax. Clear. ",
    ("g2d-code", ADDENDUM): "New opacity 12. Edema  none. Old text of the first read. ",
    ("g2d-code", STUDY_HEADING): "One tube. improved",
    ("g2d-code", SHORT): "Normal chest. ",
    ("chexzero", FILE): "1. No acute disease. 2. Stable mass (see ___).",
    ("chexzero", ADDENDUM): "New opacity 12. 4. Edema COMPARISON none.",
    ("chexzero", STUDY_HEADING): "NO IMPRESSION",
    ("chexzero", SHORT): "Normal chest.",
}

DROPPED = {
    ("mgca", PARAGRAPH): NO_SECTION,
    ("mgca", SHORT): TOO_SHORT,
    ("mgca", NO_HEADING): NO_SECTION,
    ("g2d-code", PARAGRAPH): NO_SECTION,
    ("g2d-code", EMPTY): NO_SECTION,
    ("chexzero", EMPTY): NOTHING_LEFT,
    ("g2dbench", NO_HEADING): "neither findings nor impression nor a last paragraph",
    ("raw", " \n"): NOTHING_LEFT,
}


@pytest.mark.parametrize("report", SECTIONS)
def test_report_files_have_the_sections_of_the_original_parser(report: str) -> None:
    names = ("impression", "findings", "last_paragraph", "comparison")
    found = parse_sections(report)
    assert {name: found[name] for name in names if name in found} == SECTIONS[report]


@pytest.mark.parametrize(("name", "report"), GOLDEN)
def test_published_cleanings_equal_their_original_code(name: CleaningName, report: str) -> None:
    assert clean(report, name) == (GOLDEN[name, report], KEPT)


@pytest.mark.parametrize(("name", "report"), DROPPED)
def test_dropped_reports_have_a_reason(name: CleaningName, report: str) -> None:
    assert clean(report, name) == (None, DROPPED[name, report])


def test_the_default_cleaning_uses_only_findings_and_impression_of_a_file() -> None:
    assert clean(FILE, "g2dbench").text == (
        "Heart size is 3.5 cm above normal. Calcified na\u00efve nodule. No pneumothorax. Clear. "
        "No acute disease. Stable mass (see )."
    )
    assert clean(PARAGRAPH, "g2dbench").text == "The lungs are clear. No fracture."


def test_raw_changes_nothing() -> None:
    assert clean(FILE, "raw").text == FILE


INLINE = "Findings: Lungs clear. 1. Big heart. Impression: No XXXX."


def test_reports_of_one_line_are_split_at_their_headings() -> None:
    assert parse_sections(INLINE) == {
        "findings": "Lungs clear. 1. Big heart.", "impression": "No XXXX.",
    }  # fmt: skip
    assert parse_sections("A caption: clear.") == {"findings": "A caption: clear."}
    assert parse_sections("") == {}
    assert clean(INLINE, "mgca").text == "no xxxx lungs clear big heart"
    assert clean(INLINE, "chexzero").text == "No XXXX."
    assert clean("Lungs clear.", "chexzero").text == "NO IMPRESSION"


@pytest.mark.parametrize("name", CLEANINGS)
def test_a_missing_report_is_dropped(name: CleaningName) -> None:
    assert clean(None, name) == (None, "no report")


def test_every_named_cleaning_exists() -> None:
    assert tuple(CLEANINGS) == get_args(CleaningName)
    assert all("Source" in (CLEANINGS[name].__doc__ or "") for name in ("mgca", "chexzero"))


def test_pairs_are_counted_step_by_step() -> None:
    pairs = [("PA", FILE), ("AP", SHORT), ("LATERAL", FILE), (None, None), ("PA", NO_HEADING)]
    counts = count_pairs(pairs, "mgca")
    assert counts == {
        OTHER_VIEW: 1, "no report": 1, TOO_SHORT: 1, NO_SECTION: 1, KEPT: 1,
    }  # fmt: skip
    assert describe_steps(counts) == (
        "5 images, 4 left without 1 (another view than frontal), 3 left without 1 (no report), "
        "2 left without 1 (fewer than 3 words), 1 left without 1 (neither findings nor impression)"
    )


def test_the_default_cleaning_of_real_reports_equals_clean_report(real_data) -> None:
    reports = [item.report for item in open_i.read(real_data / "open_i")]
    assert all(clean(report, "g2dbench").text == clean_report(report) for report in reports)
    cleaned = [clean(report, "mgca").text for report in reports]
    assert sum(text is not None for text in cleaned) > 2700
    assert not any(set(text or "") & set(".,:;ABC\n") for text in cleaned)


# -- in recipes


def test_the_default_cleaning_does_not_change_the_digest_of_a_recipe() -> None:
    recipe = recipes.parse('name = "mine"\nmethod = "g2d"', "here")
    content = recipe.model_dump(mode="json", exclude={"name", "summary"})
    assert content["data"].pop("cleaning") == "g2dbench"
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert recipe.digest() == before
    changed = recipes.override(recipe, ["data.cleaning=mgca"])
    assert changed.digest() != before
    assert changed.name.startswith("mine+")


def test_the_recipe_of_the_released_code_uses_its_cleaning() -> None:
    assert recipes.load("g2d-code").data.cleaning == "g2d-code"
