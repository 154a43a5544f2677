"""The main score of a cell may depend on the data set."""

import dataclasses
from pathlib import Path

import torch
from support.classification import Classes, SmallCnn, part, stripes

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.runner import evaluate
from g2dbench.registry import Registry
from g2dbench.system.machine import Machine
from g2dbench.task import main_metric

TASK = Registry().find(TaskCard, "cls").load()
SIZES = {"train": 30, "valid": 15, "test": 15}


def test_accuracy_is_the_main_score_where_classes_exclude_each_other(tmp_path: Path) -> None:
    samples = [
        dataclasses.replace(data[row], split=name)
        for name, count in SIZES.items()
        for data in [stripes(name, count)]
        for row in range(count)
    ]
    data = MemoryDataset(samples, Classes.card, Classes.size, "stripes")
    model = SmallCnn()
    model.card = ModelCard(
        name="small", summary="", paper="", source="", licence="", capabilities=("features",)
    )
    spec = CellSpec(model="small", task="cls", data="stripes", protocol="sweep+uncertain=ones")
    machine = Machine(device=torch.device("cpu"))
    result = evaluate(spec, model, TASK, data, machine, tmp_path).result
    assert result.status == "done", result.reason
    assert result.metric == "acc"
    assert result.main == result.scores["acc"]
    assert result.main is not None
    assert result.main.n == 15
    assert result.cell.protocol == "sweep+uncertain=ones"
    assert result.provenance.config["image_size"] == Classes.size
    labels = result.details["labels"]
    assert isinstance(labels, dict)
    assert labels["train"] == {
        name: {"present": 10, "absent": 20, "uncertain": 0, "missing": 0}
        for name in ("one", "two", "three")
    }


def test_a_task_without_a_rule_has_one_main_score() -> None:
    ground = Registry().find(TaskCard, "ground").load()
    assert main_metric(ground, Classes.card) == ground.CARD.metric
    assert main_metric(TASK, part("t", 2).card) == "auc"
