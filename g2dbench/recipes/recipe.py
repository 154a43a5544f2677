"""Recipes: all settings of a pre-training run except the data, the seed and the machine.

    name, method, summary
    [data]      the data set it was written for, the prepared size, views, report cleaning
    [model]     passed to the method, which checks its keys
    [augment]   a policy of `training.batches.augmentation`; [optim]: optimizer, schedule, batches

A changed recipe gets a new name, `g2d-tiny+1a2b3c`, so that a leaderboard never mixes the two.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from g2dbench.cards import MethodCard
from g2dbench.data.reports.cleaning import DEFAULT, CleaningName
from g2dbench.errors import Misuse
from g2dbench.field_errors import sentences
from g2dbench.recipes.lr_schedule import Schedule, learning_rate
from g2dbench.registry import Registry, unknown_name
from g2dbench.sample import ViewFilter
from g2dbench.system.bounded_files import MAX_TOML_BYTES, parse_toml, read_text

AugmentPolicy = Literal["none", "light", "paper", "code"]

CHANGE_MARK = "+"
"""Separates a recipe's name from the digest of its changed content."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\+[0-9a-f]{6})?")
_METHOD_TABLES = ("model",)  # tables whose keys the method checks
_BARE_WORD = re.compile(r"[A-Za-z_/~.][\w./~:+-]*")


class _Table(BaseModel):
    """A frozen table that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Table):
    """`[data]`. name: data set that the recipe was written for; size: prepared short side in px.

    cleaning: how reports are cleaned, one of `CLEANINGS` in `g2dbench.data.reports.cleaning`.
    """

    name: str = "synthetic"
    size: int = Field(default=256, ge=16, le=4096)
    views: ViewFilter = "frontal"
    cleaning: CleaningName = DEFAULT


class AugmentSettings(_Table):
    """`[augment]`: augmentation of training images."""

    policy: AugmentPolicy = "light"


class OptimSettings(_Table):
    """`[optim]`: AdamW.

    batch_size: pairs per process and step. epochs: passes over the training pairs.
    schedule: linear warm-up over `warmup_steps` (or `warmup_fraction` of all steps), then a cosine
    down to `min_lr`, the same cosine restarted every `restart_steps`, or a constant rate.
    grad_clip: maximum norm of the gradient; 0 for no clipping.
    micro_batch: pairs per micro-batch, for batches that do not fit into memory
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
    micro_batch: int = Field(default=0, ge=0)

    @pydantic.model_serializer(mode="wrap")
    def _write(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without `micro_batch` where it is off: recipes older than it keep their names."""
        return {key: value for key, value in write(self).items() if key != "micro_batch" or value}

    @model_validator(mode="after")
    def _consistent(self) -> "OptimSettings":
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError("warmup_steps and warmup_fraction are both set: choose one")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("both betas lie in [0, 1)")
        return self

    def warmup(self, total: int) -> int:
        """Warm-up steps of a training of `total` steps."""
        return self.warmup_steps or round(self.warmup_fraction * total)

    def lr_at(self, step: int, total: int) -> float:
        """The learning rate of step 0, 1, ... of `total`."""
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
    """The settings of a pre-training run; `name` is its label in the leaderboard."""

    name: str
    method: str
    summary: str = ""
    data: DataSettings = DataSettings()
    model: dict[str, Any] = {}
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()

    @model_validator(mode="after")
    def _plain_name(self) -> "Recipe":
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} may hold letters, digits and .-_ only")
        return self

    def digest(self) -> str:
        """SHA-256 of everything that changes the weights: all but the name and the summary."""
        content = self.model_dump(mode="json", exclude={"name", "summary"})
        if content["data"]["cleaning"] == DEFAULT:
            # Newer than the first trained runs, whose names must not change.
            del content["data"]["cleaning"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def names() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(file.name[:-5] for file in _shipped() if file.name.endswith(".toml"))


def load(name: str | Path) -> Recipe:
    """A recipe of the package by name, or one from a TOML file.

    A file with the name of a shipped recipe but other content is renamed like a changed recipe.
    Raises Misuse for an unknown name and for an invalid file.
    """
    if str(name) in names():
        return _shipped_recipe(str(name))
    path = Path(name).expanduser()
    if path.suffix != ".toml" or not path.is_file():
        raise Misuse(unknown_name("recipe", str(name), names(), "g2dbench list recipes"))
    try:
        text = read_text(path, MAX_TOML_BYTES)
    except (OSError, ValueError) as error:
        raise Misuse(f"the recipe {path} cannot be read: {error}") from error
    recipe = parse(text, str(path))
    if recipe.name in names() and recipe.digest() != _shipped_recipe(recipe.name).digest():
        return _renamed(recipe)
    return recipe


def parse(text: str, where: str) -> Recipe:
    """Parse TOML text; raises Misuse with the place, the key and the reason if it is invalid."""
    try:
        table = parse_toml(text)
    except ValueError as error:
        raise Misuse(f"the recipe {where} is not valid TOML: {error}") from error
    return _validated(table, where)


def override(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """The recipe with `key=value` changes, such as "optim.lr=1e-4"; values are written as in TOML.

    A bare word counts as text. The method checks keys under `model` when it is built. The name
    changes if the content does. Raises Misuse for an unknown key and for an invalid value.
    """
    table = recipe.model_dump(mode="json")
    for change in changes:
        key, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            raise Misuse(f"--set {change!r} is not KEY=VALUE, such as optim.lr=1e-4")
        _check_key(key)
        _set_value(table, key.split("."), _value(text, change))
    changed = _validated(table, "with --set")
    return recipe if changed.digest() == recipe.digest() else _renamed(changed)


def check_method(recipe: Recipe, method: str | None, registry: Registry) -> None:
    """Raise Misuse if the recipe's method is not registered or differs from `method`."""
    registry.find(MethodCard, recipe.method)
    if method is not None and method != recipe.method:
        raise Misuse(
            f"recipe {recipe.name!r} trains {recipe.method!r}, not --method {method}: leave "
            f"--method out, or choose a recipe of {method} (`g2dbench list recipes`)"
        )


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The keys whose values differ, as "optim.lr: 0.001 / 0.002"."""
    left, right = (_flatten(recipe.model_dump(mode="json")) for recipe in (one, other))
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
    base = recipe.name.partition(CHANGE_MARK)[0]
    return recipe.model_copy(update={"name": f"{base}{CHANGE_MARK}{recipe.digest()[:6]}"})


def _validated(table: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise Misuse(f"the recipe {where}: {sentences(error, _unknown_key)}") from error


def _unknown_key(path: Sequence[str]) -> str:
    return unknown_name("recipe key", ".".join(path), _keys())


def _keys() -> list[str]:
    """All keys of a recipe, dotted; `model` stands for the keys of the method."""
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
    if head in _METHOD_TABLES and rest and all(rest.split(".")):
        return
    settable = [known for known in _keys() if "." in known]
    if key not in settable:
        raise Misuse(unknown_name("recipe key", key, [*settable, "model.KEY"]))


def _value(text: str, change: str) -> Any:
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError as error:
        if _BARE_WORD.fullmatch(text):
            return text
        raise Misuse(f"--set {change!r}: {text!r} is no TOML value ({error})") from error
    if parsed.keys() == {"value"}:  # a line break would add keys, which nobody would read
        return parsed["value"]
    raise Misuse(f"--set {change!r} holds several lines: write one KEY=VALUE for each --set")


def _set_value(table: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            raise Misuse(f"--set {'.'.join(path)}: {step!r} is a value, not a table")
    table[path[-1]] = value


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
