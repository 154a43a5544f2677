"""Recipes load, refuse unknown keys, and get a new name when they are changed."""

import itertools
from pathlib import Path

import pytest

from g2dbench.errors import Misuse
from g2dbench.recipes import recipe as recipes
from g2dbench.recipes.recipe import OptimSettings, Recipe
from g2dbench.registry import Registry


def a_recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({"name": "mine", "method": "g2d", **changes})


@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_names_itself_its_method_and_its_purpose(name: str) -> None:
    loaded = recipes.load(name)
    assert loaded.name == name
    assert loaded.summary
    recipes.check_method(loaded, None, Registry())


def test_the_documented_recipes_are_shipped() -> None:
    promised = {"g2d-tiny", "convirt-tiny", "g2d-small", "convirt-small", "g2d-paper"}
    assert promised <= set(recipes.names())


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(Misuse, match="did you mean 'g2d-tiny'"):
        recipes.load("g2d-tiy")


def test_a_custom_file_loads(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nmethod = "g2d"\n[optim]\nlr = 1e-3\n')
    assert recipes.load(file).optim.lr == 1e-3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ('name = "a"', "method"),
        ('name = "a/b"\nmethod = "g2d"', "letters, digits"),
        ('name = "a"\nmethod = "g2d"\n[optim]\nlearn = 1', "recipe key 'optim.learn'"),
        ('name = "a"\nmethod = "g2d"\n[optim]\nlr = -1', "optim.lr = -1"),
        ('name = "a"\nmethod = "g2d"\n[optim]\nlr = nan', "optim.lr"),
        ('name = "a"\nmethod = "g2d"\n[optim]\nbatch_size = 1', "optim.batch_size"),
        ('name = "a"\nmethod = "g2d"\n[optim]\nwarmup_steps = 1\nwarmup_fraction = 0.1', "choose"),
    ],
)
def test_an_invalid_file_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(Misuse, match=said) as caught:
        recipes.load(file)
    assert str(file) in str(caught.value)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misuse, match="cannot be read"):
        recipes.load(file)


def test_override_parses_toml_values_and_bare_words() -> None:
    changed = recipes.override(
        a_recipe(),
        [
            "optim.lr=1e-4",
            "optim.betas=[0.8, 0.95]",
            "model.image.encoder=resnet34",
            "augment.policy = none",
            "model.text.layers=2",
        ],
    )
    assert changed.optim.lr == 1e-4
    assert changed.optim.betas == (0.8, 0.95)
    assert changed.augment.policy == "none"
    assert changed.model == {"image": {"encoder": "resnet34"}, "text": {"layers": 2}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optim.lrr=1", "did you mean 'optim.lr'"),
        ("opim.lr=1", "did you mean 'optim.lr'"),
        ("optim=1", "no recipe key 'optim'"),
        ("name=x", "no recipe key 'name'"),
        ("model=1", "no recipe key 'model'"),
        ("model..a=1", "no recipe key"),
        ("optim.lr", "KEY=VALUE"),
        ("optim.lr=", "no TOML value"),
        ("optim.lr=fast", "optim.lr = 'fast'"),
        ("optim.lr=1e-4x", "no TOML value"),
        ("model.a.b.c=1", "is a value, not a table"),
    ],
)
def test_an_impossible_override_is_refused(change: str, said: str) -> None:
    with pytest.raises(Misuse, match=said):
        recipes.override(a_recipe(model={"a": {"b": 1}}), [change])


def test_a_changed_recipe_gets_another_name_and_an_unchanged_one_keeps_it() -> None:
    plain = a_recipe()
    assert recipes.override(plain, [f"optim.lr={plain.optim.lr}"]).name == "mine"
    one = recipes.override(plain, ["optim.lr=1e-5"])
    other = recipes.override(plain, ["optim.lr=2e-5"])
    assert one.name.startswith("mine+")
    assert len(one.name) == len("mine+") + 6
    assert one.name != other.name
    assert one.name == recipes.override(other, ["optim.lr=1e-5"]).name
    assert recipes.differences(plain, one) == [f"optim.lr: {plain.optim.lr} / 1e-05"]


def test_a_file_with_the_name_of_a_shipped_recipe_is_renamed_unless_it_is_equal(
    tmp_path: Path,
) -> None:
    name = recipes.names()[0]
    original = Path(recipes.__file__).parent / f"{name}.toml"
    copy = tmp_path / "copy.toml"
    copy.write_text(original.read_text())
    assert recipes.load(copy).name == name
    copy.write_text(original.read_text().replace("[optim]", "[optim]\nmin_lr = 1e-7"))
    assert recipes.load(copy).name.startswith(f"{name}+")


def test_the_requested_method_must_be_that_of_the_recipe() -> None:
    registry = Registry()
    recipes.check_method(a_recipe(), "g2d", registry)
    with pytest.raises(Misuse, match="trains 'g2d', not --method convirt"):
        recipes.check_method(a_recipe(), "convirt", registry)
    with pytest.raises(Misuse, match="did you mean 'g2d'"):
        recipes.check_method(a_recipe(method="g2"), None, registry)


def test_the_cosine_warms_up_falls_and_never_rises_again() -> None:
    optim = OptimSettings(lr=1.0, min_lr=0.1, warmup_steps=4, epochs=1)
    rates = [optim.lr_at(step, 20) for step in range(60)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[12] == pytest.approx(0.55)
    falling = rates[4:]
    assert all(later <= earlier for earlier, later in itertools.pairwise(falling))
    assert rates[20:] == [pytest.approx(0.1)] * 40


def test_the_other_schedules_and_the_limits_of_warm_up() -> None:
    assert OptimSettings(lr=1.0, schedule="constant").lr_at(7, 5) == 1.0
    restarts = OptimSettings(lr=1.0, schedule="restarts", restart_steps=10)
    assert [restarts.lr_at(step, 99) for step in (0, 10, 20)] == [1.0, 1.0, 1.0]
    assert restarts.lr_at(5, 99) == pytest.approx(0.5)
    assert OptimSettings(warmup_fraction=0.1).warmup(50) == 5
    whole = OptimSettings(lr=1.0, warmup_fraction=1.0)
    assert whole.lr_at(9, 10) == 1.0
    assert whole.lr_at(10, 10) == 1.0
