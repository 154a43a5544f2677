"""Ablation studies: arms differ, published values are found, and the command runs."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.ablation.studies import arm_recipes as recipes_of
from g2dbench.ablation.studies import find_study
from g2dbench.ablation.studies import published_values as published
from g2dbench.cards import MethodCard
from g2dbench.cli import app
from g2dbench.errors import Misuse
from g2dbench.methods.g2d import STUDIES
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.study import Study
from g2dbench.registry import Registry

pytestmark = pytest.mark.integration

BASE, REGISTRY = recipes.load("g2d-tiny"), Registry()


def find(name: str, more: Sequence[str] = ()) -> Study:
    method, study = find_study(name, REGISTRY, more)
    assert method == "g2d"
    return study


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_arm_builds_a_different_method(study: Study) -> None:
    tokenizer = train_wordpiece(["the heart is large", "no effusion"], 60)
    made = recipes_of(study, BASE)
    for recipe in made:
        Registry().find(MethodCard, "g2d").load().build(recipe.model, tokenizer, 0)
    assert len({recipe.digest() for recipe in made}) >= len(made) - 1


@pytest.mark.parametrize(
    "study", [s for s in STUDIES if s.tables and s.name != "decoder"], ids=lambda s: s.name
)
def test_an_arm_of_the_paper_has_its_three_numbers(study: Study) -> None:
    for arm in study.arms:
        numbers = [published(study, arm, task) for task in ("seg", "det", "cls-tuned")]
        assert all(len(each) == 1 for each in numbers), arm


def test_published_values_belong_to_their_arm() -> None:
    decoder = {arm.name: arm for arm in find("decoder").arms}
    assert published(find("decoder"), decoder["pseudo masks"], "seg") == ("65.6±1.7 SIIM",)
    assert published(find("decoder"), decoder["shuffled masks"], "det") == ("7.6±1.2 RSNA",)
    assert published(find("decoder"), decoder["none"], "seg") == ("49.2±1.5 SIIM",)
    assert published(find("weight"), find("weight").arms[0], "seg") == ()


def test_an_extra_arm_is_parsed() -> None:
    study = find("threshold", ["p95: model.mask.percentile=95"])
    assert recipes_of(study, BASE)[-1].model["mask"]["percentile"] == 95
    for text in ("p95", "p95:", ": model.mask.percentile=95"):
        with pytest.raises(Misuse, match="is not NAME: KEY=VALUE"):
            find("threshold", [text])
    with pytest.raises(Misuse, match="'again' of 'threshold' are identical"):
        recipes_of(find("threshold", ["again: model.mask.percentile=75"]), BASE)


def test_the_command_trains_compares_and_resumes(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = [
        "ablate", "aggregation", "--data", "synthetic:120", "--task", "zeroshot",
        "--out", str(tmp_path), "--store", str(small_store),
        "--set", "data.size=64", "--set", "optim.batch_size=16", "--set", "optim.epochs=1",
        "--set", "model.pixel.start=0",
    ]  # fmt: skip
    first, again = CliRunner().invoke(app, words), CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "one mask a head" in first.output
    assert "reference" in first.output
    assert again.output == first.output
    assert len(list((tmp_path / "runs").glob("*/model.safetensors"))) == 2


def test_a_wrong_study_and_a_wrong_recipe_are_refused() -> None:
    wrong = CliRunner().invoke(app, ["ablate", "treshold"])
    assert (wrong.exit_code, "did you mean 'threshold'" in wrong.output) == (2, True)
    other = CliRunner().invoke(app, ["ablate", "heads", "--recipe", "convirt-tiny"])
    assert (other.exit_code, "is a study of g2d" in other.output) == (2, True)
    listed = CliRunner().invoke(app, ["ablate"])
    assert all(study.name in listed.output for study in STUDIES)
