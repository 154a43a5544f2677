"""Finds ablation studies: methods define them, the command line can add arms.

Published values are those of arXiv 2312.01522, tables 5a to 5f and 8.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files

from g2dbench.cards import MethodCard
from g2dbench.errors import Misuse
from g2dbench.recipes.recipe import Recipe, override
from g2dbench.recipes.study import Arm, Study
from g2dbench.registry import Registry, unknown_name


def known_studies(registry: Registry) -> dict[str, tuple[str, Study]]:
    """Study name -> (method, study), for all methods with `STUDIES` in their module."""
    found: dict[str, tuple[str, Study]] = {}
    for card in registry.cards(MethodCard):
        module = registry.find(MethodCard, card.name).load()
        studies: tuple[Study, ...] = getattr(module, "STUDIES", ())
        for study in studies:
            if study.name in found:
                raise Misuse(
                    f"the methods {found[study.name][0]!r} and {card.name!r} both have a study "
                    f"called {study.name!r}: rename one of them"
                )
            found[study.name] = (card.name, study)
    return found


def find_study(name: str, registry: Registry, extra_arms: Sequence[str] = ()) -> tuple[str, Study]:
    """The method and the study with this name, plus extra arms "NAME: KEY=VALUE ...".

    Raises Misuse for an unknown study and for an arm in another form.
    """
    known = known_studies(registry)
    if name not in known:
        raise Misuse(unknown_name("study", name, list(known)))
    method, study = known[name]
    return method, replace(study, arms=(*study.arms, *map(_arm, extra_arms)))


def _arm(text: str) -> Arm:
    name, colon, changes = text.partition(":")
    if not colon or not name.strip() or not changes.split():
        raise Misuse(
            f"--arm {text!r} is not NAME: KEY=VALUE ..., such as 'p90: model.mask.percentile=90'"
        )
    return Arm(name.strip(), tuple(changes.split()))


def arm_recipes(study: Study, recipe: Recipe) -> list[Recipe]:
    """The recipe of each arm; raises Misuse if two arms are identical."""
    found = [override(recipe, arm.changes) for arm in study.arms]
    seen: dict[tuple[str, str], str] = {}
    for arm, changed in zip(study.arms, found, strict=True):
        key = (changed.digest(), arm.transfer)
        if key in seen:
            raise Misuse(
                f"the arms {seen[key]!r} and {arm.name!r} of {study.name!r} are identical with the "
                f"recipe {recipe.name!r}: there is nothing to compare"
            )
        seen[key] = arm.name
    return found


def published_values(study: Study, arm: Arm, task: str) -> tuple[str, ...]:
    """The paper's values for an arm on a task, as "65.6±1.7 SIIM"; empty if it has none."""
    with (files("g2dbench.ablation") / "published.csv").open(encoding="utf-8") as file:
        known = list(csv.DictReader(file))
    return tuple(
        f"{row['value']}±{row['std']} {row['data']}"
        for row in known
        if row["table"] in study.tables and row["task"] == task and row["arm"] == arm.paper
    )
