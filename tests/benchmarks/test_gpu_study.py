"""The study for a GPU: ground truth, order of work, tables; and a small run of all of it."""

import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.data.pairs import a_loader

from benchmarks.gpu_study import jobs, schedule
from benchmarks.gpu_study.plan import ARMS, CELLS, SCALES, STAGES, Training, trainings
from benchmarks.gpu_study.schedule import Study
from benchmarks.gpu_study.summary import interval, is_fit, summary
from benchmarks.gpu_study.truth import Truth, mask_bits
from g2dbench.cards import TaskCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.data.synthetic.synthetic import CARD, generate
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.training.batches.pair_loader import find_pairs

ONE_SEED = [t for t in trainings(("bench",), 1) if t.scale == "96 px"]
PLACE = jobs.Place(Path("nowhere"), "cpu", 0)


def test_every_arm_of_every_scale_has_a_recipe_and_every_cell_a_protocol() -> None:
    planned = list(trainings(tuple(STAGES), 3))
    assert len(planned) > 30
    for training in planned:
        SCALES[training.scale].recipe(1000, ARMS[training.arm].changes)
    for cell in CELLS.values():
        assert cell.protocol in Registry().find(TaskCard, cell.task).load().PROTOCOLS


def test_a_stage_takes_seed_after_seed() -> None:
    planned = [(each.arm, each.seed) for each in trainings(("arms",), 2)]
    arms = ["shuffled", "reconstruction"]
    assert planned == [(arm, seed) for seed in (0, 1) for arm in arms]


def test_truth_moves_as_the_image() -> None:
    """A data set whose images are the masks: its augmented images are the augmented truth."""
    samples = [replace(generate(index, 64), split="train") for index in range(24)]
    shown = "cardiomegaly"
    white = [
        replace(s, image=255 * (s.masks or {}).get(shown, np.zeros((64, 64))).astype(np.uint8))
        for s in samples
    ]  # fmt: skip
    drawn, masks = MemoryDataset(samples, CARD, 64), MemoryDataset(white, CARD, 64)
    pairs = find_pairs(drawn, "frontal")
    bits = mask_bits(pairs.dataset)
    truth = Truth(pairs, bits, 4, 7, torch.device("cpu"))
    loader = a_loader(masks, preprocess=Preprocess(size=64, mean=(0.0,), std=(1.0,)), seed=7)
    compared = 0
    for epoch in (0, 1):
        for batch in loader.epoch(epoch):
            wanted = batch.images[:, 0] > 0.45  # brightness is scaled by 0.9 to 1.1
            found = truth.masks(batch)[:, CARD.findings.index(shown)] > 0.5
            differing = (wanted ^ found).flatten(1).sum(1)
            perimeter = 0.15 * wanted.flatten(1).sum(1) + 3
            assert (differing <= perimeter).all()
            compared += int(wanted.any())
    assert compared
    labels = truth.labels(next(loader.epoch(0)))
    by_id = {sample.id: sample.labels or {} for sample in samples}
    for name, row in zip(next(loader.epoch(0)).ids, labels.tolist(), strict=True):
        assert row == [bool(by_id[name][finding]) for finding in CARD.findings]


def test_intervals_are_students() -> None:
    low, high = interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert interval([5.0]) == (-math.inf, math.inf)


def test_a_bench_is_fit_if_its_ends_are_far_apart_in_all_trainings() -> None:
    assert is_fit([40.0, 41.0, 42.0], [60.0, 61.0, 62.0], 15)
    assert not is_fit([40.0, 41.0, 42.0], [50.0, 51.0, 52.0], 15)
    assert not is_fit([30.0, 40.0, 50.0], [50.0, 60.0, 70.0], 15)
    assert not is_fit([40.0], [80.0], 15)


def row(arm: str, seed: int, cell: str, **values: Any) -> jobs.Row:
    return {"scale": "96 px", "arm": arm, "seed": seed, "cell": cell, **values}


def test_the_summary_holds_means_differences_and_verdicts() -> None:
    rows = [
        row(arm, seed, "ground", value=base + seed / 100, seconds=1.0)
        for arm, base in (("untrained", 0.05), ("none", 0.10), ("named", 0.40))
        for seed in range(3)
    ]
    rows.append(row("told", 0, "ground", failed="no memory"))
    text = summary(rows, ["A fact."])
    assert "| named | 41.0 | 1.0 | 38.5 to 43.5 | +30.0 (+30.0, +30.0, +30.0) |" in text
    assert "fit: 'named' is +35.0 from the floor, 10 are wanted" in text
    assert "- 96 px, told, seed 0, ground: no memory" in text
    assert "A fact." in text


def study(
    monkeypatch: pytest.MonkeyPatch, seconds: float, of_cell: float = 0.0, **changes: Any
) -> Study:
    """A study whose trainings and evaluations sleep, in threads."""

    def train(training: Training, place: jobs.Place) -> jobs.Row:
        time.sleep(seconds)
        if training.arm == "told":
            raise RuntimeError("no memory")
        return row(training.arm, training.seed, jobs.TRAIN)

    def evaluate(training: Training, cell: str, place: jobs.Place) -> jobs.Row:
        time.sleep(of_cell)
        return row(training.arm, training.seed, cell, value=0.5)

    monkeypatch.setattr(jobs, "train", train)
    monkeypatch.setattr(jobs, "evaluate", evaluate)
    monkeypatch.setattr(schedule, "process_pool", ThreadPoolExecutor)
    monkeypatch.setattr(schedule, "_TICK", 0.05)
    settings: dict[str, Any] = {
        "wanted": ONE_SEED, "cells": ["ground", "seg consolidation"],
        "place": PLACE, "done": set(), "deadline": time.monotonic() + 20,
    }  # fmt: skip
    return Study(**settings | changes)


def test_a_failed_training_ends_neither_the_study_nor_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[jobs.Row] = []
    study(monkeypatch, 0.01, record=rows.append).run()
    failed = [each for each in rows if "failed" in each]
    assert [(each["arm"], each["failed"]) for each in failed] == [
        ("told", "RuntimeError: no memory")
    ]
    arms = {training.arm for training in ONE_SEED} - {"told"}
    scored = {(each["arm"], each["cell"]) for each in rows if "value" in each}
    assert scored == {(arm, cell) for arm in arms for cell in ("ground", "seg consolidation")}
    again = study(monkeypatch, 0.01, record=rows.append, done=schedule.finished_keys(rows))
    assert [t.arm for t in again.wanted if again.missing(t)] == ["told"]


def test_no_training_starts_that_cannot_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[jobs.Row] = []
    began = time.monotonic()
    many = list(trainings(("bench", "arms"), 3))
    study(monkeypatch, 0.4, record=rows.append, wanted=many, deadline=began + 1.6, trainers=2).run()
    assert time.monotonic() - began < 2.5
    started = {(each["arm"], each["seed"]) for each in rows if each["cell"] == jobs.TRAIN}
    assert started == {(training.arm, training.seed) for training in many[: len(started)]}
    assert 2 <= len(started) < len(many)


def test_the_most_important_cell_of_all_models_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[jobs.Row] = []
    study(monkeypatch, 0.0, 0.2, record=rows.append, trainers=20, evaluators=1).run()
    cells = [each["cell"] for each in rows if "value" in each]
    assert cells == ["ground"] * (len(cells) // 2) + ["seg consolidation"] * (len(cells) // 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_small_study_runs_and_goes_on(tmp_path: Path, project: Path) -> None:
    words = ["--stage", "small", "--device", "cpu", "--minutes", "15", "--out", str(tmp_path)]
    words += ["--cell", "ground", "--cell", "mask precision"]
    command = [sys.executable, "-m", "benchmarks.gpu_study", *words]
    text = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 12, text
    assert not [each for each in rows if "failed" in each]
    assert "### ground, small" in text
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 12
