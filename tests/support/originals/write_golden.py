"""Write tests/baselines/golden/NAME.json from the authors' code.

G2DBENCH_ORIGINAL_NAME=checkout PYTHONPATH=tests python -m support.originals.write_golden NAME

NAME is the module's, with its folder if it has one: image_text.carzero.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "baselines" / "golden"


def variable(name: str) -> str:
    """The environment variable that names the checkout of a model's original."""
    return f"G2DBENCH_ORIGINAL_{name.upper()}"


def to_json(values: Tensor) -> list[object]:
    rounded: list[object] = np.vectorize(lambda number: float(f"{number:.6g}"), otypes=[float])(
        values.double().numpy()
    ).tolist()
    return rounded


def main(name: str) -> None:
    case = importlib.import_module(f"support.originals.{name}")
    name = name.rpartition(".")[2]
    with torch.no_grad():
        found = case.thinned(case.original(Path(os.environ[variable(name)])))
    GOLDEN.mkdir(exist_ok=True)
    text = json.dumps({key: to_json(values) for key, values in found.items()})
    (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print({key: (tuple(values.shape), float(values.std())) for key, values in found.items()})


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(argument)
