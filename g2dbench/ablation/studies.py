"""Which studies there are: methods state them, further arms come from the command line.

Published numbers are those of arXiv 2312.01522, tables 5a to 5f and 8.
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
    """Study name -> (method, study), of every method that states studies in its module."""
    found: dict[str, tuple[str, Study]] = {}
    for card in registry.cards(MethodCard):
        module = registry.find(MethodCard, card.name).load()
        stated: tuple[Study, ...] = getattr(module, "STUDIES", ())
        for study in stated:
            if study.name in found:
                raise Misuse(
                    f"the methods {found[study.name][0]!r} and {card.name!r} both have a study "
                    f"called {study.name!r}: rename one of them"
                )
            found[study.name] = (card.name, study)
    return found


def find(name: str, registry: Registry, more: Sequence[str] = ()) -> tuple[str, Study]:
    """The method and the study of a name, with further arms "NAME: KEY=VALUE ...".

    Misuse for an unknown study or an arm of another form.
    """
    known = known_studies(registry)
    if name not in known:
        raise Misuse(unknown_name("study", name, list(known)))
    method, study = known[name]
    return method, replace(study, arms=(*study.arms, *map(_arm, more)))


def _arm(text: str) -> Arm:
    name, colon, changes = text.partition(":")
    if not colon or not name.strip() or not changes.split():
        raise Misuse(
            f"--arm {text!r} is not NAME: KEY=VALUE ..., such as 'p90: model.mask.percentile=90'"
        )
    return Arm(name.strip(), tuple(changes.split()))


def recipes(study: Study, recipe: Recipe) -> list[Recipe]:
    """Each arm's recipe; Misuse where two arms of one transfer would be the same."""
    found = [override(recipe, arm.changes) for arm in study.arms]
    seen: dict[tuple[str, str], str] = {}
    for arm, changed in zip(study.arms, found, strict=True):
        key = (changed.digest(), arm.transfer)
        if key in seen:
            raise Misuse(
                f"the arms {seen[key]!r} and {arm.name!r} of {study.name!r} are the same with the "
                f"recipe {recipe.name!r}: nothing would be compared"
            )
        seen[key] = arm.name
    return found


def published(study: Study, arm: Arm, task: str) -> tuple[str, ...]:
    """What the paper prints for an arm on a task: "65.6±1.7 SIIM"; empty where it says nothing."""
    with (files("g2dbench.ablation") / "published.csv").open(encoding="utf-8") as file:
        known = list(csv.DictReader(file))
    return tuple(
        f"{row['value']}±{row['std']} {row['data']}"
        for row in known
        if row["table"] in study.tables and row["task"] == task and row["arm"] == arm.paper
    )
