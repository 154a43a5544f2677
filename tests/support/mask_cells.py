"""Finished cells of the task `seg` on four-pixel-high images, with predictions on disk."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from g2dbench.cards import TaskCard
from g2dbench.data.annotations import rle
from g2dbench.evaluation.cell_identity import folder_of, settings_of
from g2dbench.registry import Registry
from g2dbench.result import PREDICTIONS_FILE, SUBSET_FILE, Cell, Provenance, Result, save
from g2dbench.system.files import file_digest
from g2dbench.task import protocol_of

TRUTH = np.zeros((4, 4), bool)
TRUTH[:2] = True  # 8 pixels


def predicted(found: int) -> str:
    """A mask that covers so many of the truth's 8 pixels and nothing else: Dice 2n / (n + 8)."""
    mask = np.zeros(16, bool)
    mask[:found] = True
    return rle.encode(mask.reshape(4, 4))


def dice(found: int) -> float:
    return 2 * found / (found + 8)


def mask_cell(folder: Path, model: str, run: int, found: list[int], /, **changes: object) -> Path:
    """A cell that detects so many pixels of each image; changes: of the cell or provenance.

    real_folder: in the folder that `eval` would write; else in one folder of `folder`.
    """
    table = pd.DataFrame(
        [
            {
                "id": f"image{n}", "patient": f"patient{n}", "finding": "opacity",
                "height": 4, "width": 4, "truth": rle.encode(TRUTH), "predicted": predicted(count),
            }
            for n, count in enumerate(found)
        ]
    )  # fmt: skip
    cell = {
        "model": model, "model_seed": run, "task": "seg", "data": "toy", "protocol": "small",
        "fraction": 0.5, "seed": run,
    }  # fmt: skip
    cell |= {key: changes.pop(key) for key in list(changes) if key in Cell.model_fields}
    ids = ["train1", "train2"]
    subset = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    task = Registry().find(TaskCard, "seg").load()
    protocol = protocol_of(task, "small")[1]
    config = {"model_settings": {}, "model_code": "m", "task_code": "t"}
    config["protocol"] = settings_of(protocol)
    origin = {
        "version": "0", "weights": f"{model}{cell['model_seed']}", "data": "d", "subset": subset,
        "created": "2026-01-01T00:00:00+00:00", "config": config,
    }  # fmt: skip
    real = changes.pop("real_folder", False)
    origin |= changes
    key = Cell(**cell)  # type: ignore[arg-type]
    identity = {"cell": key.model_dump(), "weights": origin["weights"], "data": origin["data"],
                "subset": origin["subset"], "version": origin["version"], **config}  # fmt: skip
    seeds = (cell["model_seed"], cell["seed"], cell["data"], cell["fraction"])
    flat = folder / "-".join(str(part) for part in (model, *seeds)).replace("/", "-")
    place = folder_of(folder, key, identity) if real else flat
    place.mkdir(parents=True)
    table.to_parquet(place / PREDICTIONS_FILE)
    (place / SUBSET_FILE).write_text(json.dumps({"digest": origin["subset"], "ids": ids}))
    origin.setdefault("predictions", file_digest(place / PREDICTIONS_FILE))
    result = Result(
        cell=key,
        status="done",
        metric="dice",
        scores=task.score(table, protocol),
        counts={"train": len(ids), "test": len(found)},
        provenance=Provenance(**origin),  # type: ignore[arg-type]
    )
    save(result, place)
    return place
