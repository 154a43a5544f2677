"""Recipes: everything that decides a pre-training run but the data, the seed and the machine.

    name, method, summary
    [data]      what it was written for: the data set, the prepared size, views, report cleaning
    [model]     handed to the method as it is; the method checks its keys
    [augment]   one of `g2dbench.training.batches.augmentation.POLICIES`
    [optim]     optimiser, schedule, batches

A changed recipe gets another name, `g2d-tiny+1a2b3c`, so that a leaderboard never mixes the two.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from g2dbench.cards import MethodCard
from g2dbench.data.reports.cleaning import DEFAULT, CleaningName
from g2dbench.errors import Misuse
from g2dbench.recipes.lr_schedule import Schedule, learning_rate
from g2dbench.registry import Registry, unknown_name
from g2dbench.sample import ViewFilter

Policy = Literal["none", "light", "paper", "code"]

CHANGED = "+"
"""Stands between a recipe's name and the digest of what it was changed to."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\+[0-9a-f]{6})?")
_FREE = ("model",)  # tables whose keys the method knows, not the recipe
_BARE = re.compile(r"[A-Za-z_/~.][\w./~:+-]*")


class _Table(BaseModel):
    """Frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Table):
    """`[data]`: name is of the data set it was written for; size the prepared short side in px.

    cleaning: what the text encoder reads of a report, one of `CLEANINGS` in
    `g2dbench.data.reports.cleaning`.
    """

    name: str = "synthetic"
    size: int = Field(default=256, ge=16, le=4096)
    views: ViewFilter = "frontal"
    cleaning: CleaningName = DEFAULT


class Augment(_Table):
    """`[augment]`: how training images are varied."""

    policy: Policy = "light"


class Optim(_Table):
    """`[optim]`: AdamW.

    batch_size: pairs per process and step. epochs: passes over the training pairs.
    schedule: linear warm-up over `warmup_steps` (or `warmup_fraction` of all steps), then a cosine
    that ends at `min_lr` and stays there, the same cosine restarted every `restart_steps`, or none.
    grad_clip: largest norm of the whole gradient; 0 for no clipping.
    micro_batch: pairs whose activations are in memory at once, for batches that would not fit
    (`g2dbench.training.gradient_cache`); 0 for the whole batch.
    """

    lr: float = Field(default=3e-4, gt=0, allow_inf_nan=False)
    min_lr: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Schedule = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    warmup_fraction: float = Field(default=0.0, ge=0, le=1)
    restart_steps: int = Field(default=200, ge=1)
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=2)
    grad_clip: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    # Not written where it is off: recipes changed before it existed keep their names.
    micro_batch: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)

    @model_validator(mode="after")
    def _agree(self) -> "Optim":
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError("warmup_steps and warmup_fraction are both set: choose one")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("both betas lie in [0, 1)")
        return self

    def warmup(self, total: int) -> int:
        """Steps of warm-up in a training of `total` steps."""
        return self.warmup_steps or round(self.warmup_fraction * total)

    def lr_at(self, step: int, total: int) -> float:
        """The learning rate of step 0, 1, ... of `total`; a cosine stays at its end."""
        return learning_rate(
            step,
            total,
            self.schedule,
            peak=self.lr,
            end=self.min_lr,
            warmup=self.warmup(total),
            restart_steps=self.restart_steps,
        )


class Recipe(_Table):
    """One pre-training run, but for data, seed and machine; `name` is its leaderboard label."""

    name: str
    method: str
    summary: str = ""
    data: Data = Data()
    model: dict[str, Any] = {}
    augment: Augment = Augment()
    optim: Optim = Optim()

    @model_validator(mode="after")
    def _plain_name(self) -> "Recipe":
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} may hold letters, digits and .-_ only")
        return self

    def digest(self) -> str:
        """SHA-256 of everything that changes the weights: not of the name and the summary."""
        content = self.model_dump(mode="json", exclude={"name", "summary"})
        if content["data"]["cleaning"] == DEFAULT:
            # Younger than the first trained runs, whose names must not change.
            del content["data"]["cleaning"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(file.name[:-5] for file in _shipped() if file.name.endswith(".toml"))


def load(name: str | Path) -> Recipe:
    """A recipe by name, or from a TOML file of one's own.

    Raises Misuse for an unknown name and for a file that is no recipe. A file that uses the name
    of a shipped recipe with another content is renamed like a changed one.
    """
    if str(name) in names():
        return _shipped_recipe(str(name))
    path = Path(name).expanduser()
    if path.suffix != ".toml" or not path.is_file():
        raise Misuse(unknown_name("recipe", str(name), names()))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"the recipe {path} cannot be read: {error}") from error
    recipe = parse(text, str(path))
    if recipe.name in names() and recipe.digest() != _shipped_recipe(recipe.name).digest():
        return _renamed(recipe)
    return recipe


def parse(text: str, where: str) -> Recipe:
    """The recipe in a TOML text; Misuse names the place, the key and what is wrong with it."""
    try:
        return _validated(tomllib.loads(text), where)
    except tomllib.TOMLDecodeError as error:
        raise Misuse(f"the recipe {where} is not valid TOML: {error}") from error


def override(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """The recipe with `key=value` changes, such as "optim.lr=1e-4"; values are written as in TOML.

    A bare word is taken as text. Keys under `model` are the method's, which checks them when it is
    built. Raises Misuse for a key that does not exist and for a value that does not fit. The name
    changes unless the content stayed the same.
    """
    table = recipe.model_dump(mode="json")
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals:
            raise Misuse(f"--set {change!r} is not KEY=VALUE, such as optim.lr=1e-4")
        _check_key(key)
        _put(table, key.split("."), _value(text.strip(), change))
    changed = _validated(table, "with --set")
    return recipe if changed.digest() == recipe.digest() else _renamed(changed)


def check_method(recipe: Recipe, method: str | None, registry: Registry) -> None:
    """Misuse where the recipe's method is not registered, or is not the one asked for."""
    registry.find(MethodCard, recipe.method)
    if method is not None and method != recipe.method:
        raise Misuse(
            f"recipe {recipe.name!r} trains {recipe.method!r}, but --method {method} was asked "
            f"for: leave --method out, or choose a recipe of {method} (`g2dbench list recipes`)"
        )


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Keys whose values differ, as "optim.lr: 0.001 / 0.002"."""
    left, right = (_flat(recipe.model_dump(mode="json")) for recipe in (one, other))
    keys = sorted(key for key in left.keys() | right.keys() if key not in ("name", "summary"))
    return [
        f"{key}: {left.get(key)} / {right.get(key)}"
        for key in keys
        if left.get(key) != right.get(key)
    ]


def _shipped() -> Iterable[Any]:
    return files("g2dbench.recipes").iterdir()


def _shipped_recipe(name: str) -> Recipe:
    file = files("g2dbench.recipes") / f"{name}.toml"
    recipe = parse(file.read_text(encoding="utf-8"), str(file))
    assert recipe.name == name, f"{file} calls itself {recipe.name!r}"
    return recipe


def _renamed(recipe: Recipe) -> Recipe:
    base = recipe.name.partition(CHANGED)[0]
    return recipe.model_copy(update={"name": f"{base}{CHANGED}{recipe.digest()[:6]}"})


def _validated(table: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise Misuse(
            f"the recipe {where}: " + "; ".join(_sentence(dict(found)) for found in error.errors())
        ) from error


def _sentence(found: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return unknown_name("recipe key", key, _keys())
    reason = found["msg"].removeprefix("Value error, ")
    if not key or found["type"] in ("missing", "value_error"):
        return f"{key or 'as a whole'}: {reason}"
    return f"{key} = {found['input']!r}: {reason}"


def _keys() -> list[str]:
    """Every key of a recipe, dotted; `model` stands for the method's own."""
    found: list[str] = []
    for name, field in Recipe.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += [f"{name}.{inner}" for inner in kind.model_fields]
        else:
            found.append(name)
    return found


def _check_key(key: str) -> None:
    head, _, rest = key.partition(".")
    if head in _FREE and rest and all(rest.split(".")):
        return
    settable = [known for known in _keys() if "." in known]
    if key not in settable:
        raise Misuse(unknown_name("recipe key", key, [*settable, "model.KEY"]))


def _value(text: str, change: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if _BARE.fullmatch(text):
            return text
        raise Misuse(f"--set {change!r}: {text!r} is no TOML value ({error})") from error


def _put(table: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            raise Misuse(f"--set {'.'.join(path)}: {step!r} is a value, not a table")
    table[path[-1]] = value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
