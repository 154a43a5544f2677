"""Trainings of a small G2D with monitoring: the recipe and the rows of the logs."""

import csv
from typing import Any

from g2dbench.recipes.recipe import Recipe
from g2dbench.runs.folder import RunFolder

TIMED = {"images_per_s", "seconds", "memory_mib"}


MODEL = {
    "width": 8,
    "image": {"encoder": "mobilenet_v2", "size": 32},
    "text": {"vocab_size": 120, "layers": 1, "hidden": 16, "heads": 2, "max_length": 32},
    "attention": {"stride": 16},
    "decoder": {"channels": [16, 16, 8, 8, 8]},
    "pixel": {"start": 4},
}


def recipe(method: str = "g2d", **model: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "micro",
            "method": method,
            "data": {"name": "synthetic", "size": 64},
            "model": {**MODEL, **model},
            "optim": {"lr": 1e-3, "epochs": 2, "batch_size": 16, "warmup_steps": 1},
        }
    )


def rows(run: RunFolder, name: str) -> list[dict[str, str]]:
    with (run.folder / name).open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]
