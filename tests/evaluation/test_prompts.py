"""Prompt sets: the files that are shipped, a user's own file, and what is wrong with one."""

import json
from pathlib import Path

import pytest

from g2dbench.cards import TaskCard
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_identity import settings_of
from g2dbench.evaluation.label_policy import PAPER_FINDINGS
from g2dbench.evaluation.prompts import (
    expand,
    load_prompts,
    phrase,
    read_prompts,
    with_prompts,
)
from g2dbench.registry import Registry

SHIPPED = ("biovil", "chexzero", "g2d", "gloria", "kad", "medclip", "medklip", "mgca", "ours")


def prompt_file(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_labels_in_the_wording_of_reports() -> None:
    assert phrase("Pleural_Thickening") == "pleural thickening"
    assert phrase("Effusion") == "pleural effusion"
    assert phrase("Effusion", {"effusion": "fluid"}) == "fluid"


def test_choices_stand_for_every_combination() -> None:
    assert expand("[|mild|severe] edema [left|right]") == [
        "edema left", "edema right", "mild edema left", "mild edema right",
        "severe edema left", "severe edema right",
    ]  # fmt: skip
    assert expand("no {}") == ["no {}"]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_set_names_its_source_and_asks_the_papers_findings(name: str) -> None:
    prompts = load_prompts(name)
    assert prompts.name == name
    assert prompts.source
    asked = prompts.promptable(PAPER_FINDINGS["chexpert"])
    # MGCA's sentences are of CheXpert 8x200, which has no consolidation
    assert set(PAPER_FINDINGS["chexpert"]) - set(asked) == (
        {"Consolidation"} if name == "mgca" else set()
    )
    for finding in asked:
        for text in prompts.prompts(finding).positive:
            assert not set("{}[]|") & set(text)
            assert text == " ".join(text.split())


def test_the_number_of_published_prompts() -> None:
    """GLoRIA samples 5 of each; MedCLIP lists 210, 15, 192, 18 and 54 combinations."""
    findings = PAPER_FINDINGS["chexpert"]
    gloria, medclip, biovil = (load_prompts(name) for name in ("gloria", "medclip", "biovil"))
    assert [len(gloria.prompts(finding).positive) for finding in findings] == [5] * 5
    counts = [len(medclip.prompts(finding).positive) for finding in findings]
    assert counts == [210, 15, 192, 18, 54]
    assert set(gloria.prompts("Edema").positive) <= set(medclip.prompts("Edema").positive)
    pneumonia = biovil.prompts("Pneumonia")
    assert (len(pneumonia.positive), len(pneumonia.negative)) == (4, 4)
    assert len(biovil.prompts("Edema").positive) == 3
    assert biovil.ensemble == "raw"


def test_names_as_queries_have_the_wording_of_the_model() -> None:
    assert load_prompts("kad").query("Mass") == "lung mass"
    assert load_prompts("kad").query("Hernia") == "Hernia"
    assert load_prompts("medklip").query("Infiltration") == "infiltrate"
    assert load_prompts("ours").query("Mass") == "Mass"


def test_normal_is_no_finding_unless_the_set_says_so() -> None:
    findings = ("No Finding", "Edema", "normal")
    assert load_prompts("g2d").promptable(findings) == ("Edema",)
    assert load_prompts("mgca").promptable(findings) == ("No Finding", "Edema")
    assert load_prompts("gloria").promptable(("Edema", "Hernia")) == ("Edema",)


def test_a_users_file_and_its_label(tmp_path: Path) -> None:
    text = 'positive = ["see [a|some] {}"]\nnegative = ["no {}"]\n[phrases]\nmass = "lump"\n'
    prompts = read_prompts(prompt_file(tmp_path, text))
    assert prompts.prompts("Mass").positive == ("see a lump", "see some lump")
    assert prompts.prompts("Mass").negative == ("no lump",)
    changed = read_prompts(prompt_file(tmp_path, text.replace("lump", "bump")))
    assert prompts.label.startswith("mine-")
    assert changed.label != prompts.label
    assert read_prompts(prompt_file(tmp_path, text)).label == prompts.label


def test_the_content_of_the_file_is_in_the_settings(tmp_path: Path) -> None:
    path = prompt_file(tmp_path, 'positive = ["look for {}"]')
    zeroshot, seg = (Registry().find(TaskCard, name).load() for name in ("zeroshot", "seg"))
    name, settings = with_prompts(zeroshot, "biovil", path)
    assert name == f"biovil@{settings.prompts.label}"
    assert "look for {}" in json.dumps(settings_of(settings))
    assert with_prompts(zeroshot, "biovil", None) == ("biovil", zeroshot.PROTOCOLS["biovil"])
    with pytest.raises(Misuse, match="seg does not"):
        with_prompts(seg, "g2d", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("positive = [", "cannot read the prompts"),
        ("", "no positive prompt"),
        ('positive = ["finding"]', "does not contain {}"),
        ('positive = ["[a|b {}"]', "open bracket"),
        ('positive = ["{}", ""]', "open bracket, or is empty"),
        ('positive = "{}"', r"positive = '\{\}' must be a list"),
        ('positive = ["{}"]\nensemble = "median"', "ensemble = 'median' must be 'normalized', "),
        (
            'positive = ["{}"]\nnegatives = ["no {}"]',
            "field of a prompt file 'negatives': did you mean",
        ),
        (
            '[findings.Edema]\npositiv = ["edema"]',
            "field of findings.Edema 'positiv': did you mean 'positive'",
        ),
        ('[findings.Edema]\nnegative = ["no edema"]', "'Edema' has no positive prompt"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = prompt_file(tmp_path, text)
    with pytest.raises(Misuse, match=message) as error:
        read_prompts(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_an_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="cannot read the prompts"):
        read_prompts(tmp_path / "absent.toml")
    with pytest.raises(Misuse, match="gloria"):
        load_prompts("glorai")
