"""Protocols of zero-shot classification: prompt sets, thresholds, classes, spread, bad input."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, matthews_corrcoef
from support import toy
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.label_policy import PAPER_FINDINGS
from g2dbench.evaluation.prompts import FindingPrompts, PromptSet, phrase
from g2dbench.metrics.threshold import mcc_threshold
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder
from g2dbench.task import Run

TASK = Registry().find(TaskCard, "zeroshot").load()
FIVE = PAPER_FINDINGS["chexpert"]
COVID = ("Normal", "Pneumonia", "COVID-19")
SIDE = 8
single_thread = toy.single_thread


CHEXPERT_CARD = toy.card("chexpert", "labels", *FIVE, "Fracture", "No Finding")
COVIDX_CARD = replace(toy.card("covidx", "labels", *COVID), exclusive=True)


class Columns(Model):
    """Column k of the image shows finding k; a text points to the findings whose names it has."""

    def __init__(self, findings: Sequence[str], strength: float = 1.0) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=SIDE, channels=1)
        self.identity = Identity("columns", "0" * 64)
        self.words = [name if name in COVID else phrase(name).split()[-1] for name in findings]
        self.words = [word.lower() for word in self.words]
        self.strength = strength

    def embed_images(self, x: Tensor) -> Tensor:
        return F.normalize(x[:, 0].mean(1)[:, : len(self.words)] - 0.3, dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            words = text.lower().replace(".", "").split()
            denies = any(word in ("no", "not", "absent") for word in words)
            found = [float(word in words) for word in self.words]
            rows.append([(-1 if denies else 1) * value for value in found])
        return F.normalize(torch.tensor(rows) + 1e-3, dim=1)


class Named(Columns):
    """Matches findings by name instead."""

    embed_texts = None  # type: ignore[assignment]
    embed_images = None  # type: ignore[assignment]

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__(findings)
        self.asked: list[str] = []

    def match(self, x: Tensor, findings: Sequence[str]) -> Tensor:
        self.asked += findings
        return x[:, 0].mean(1)[:, : len(findings)]


def dataset(made: Sequence[Sample], card: DatasetCard) -> MemoryDataset:
    return MemoryDataset(made, card, SIDE, "toy")


def image(present: Sequence[bool], noise: int) -> Any:
    found = np.full((SIDE, SIDE), 30, np.uint8)
    for column, shown in enumerate(present):
        found[:, column] = 200 + noise if shown else 60 + noise
    return found


def samples(card: DatasetCard, count: int, part: str, seed: int = 0) -> MemoryDataset:
    """Independent findings, or one class per image if findings exclude each other."""
    generator = np.random.default_rng(seed)
    names = card.findings
    made = []
    for n in range(count):
        present = generator.random(len(names)) < 0.4
        if card.exclusive:
            present = np.arange(len(names)) == n % len(names)
        labels = {name: int(shown) for name, shown in zip(names, present, strict=True)}
        made.append(
            Sample(
                id=f"{part}{n:02d}", patient=f"{part}{n // 2}", labels=labels,
                image=image(present, int(generator.integers(0, 20))),
            )
        )  # fmt: skip
    return dataset(made, card)


def run_on(test: MemoryDataset, protocol: Any, **more: Any) -> Run:
    valid = more.pop("valid", None) or samples(test.card, 24, "v", seed=9)
    chosen = TASK.PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    return toy.run_with(train=test.take([]), valid=valid, test=test, protocol=chosen, **more)


CHEXPERT, COVIDX = samples(CHEXPERT_CARD, 30, "t"), samples(COVIDX_CARD, 30, "t")


@pytest.mark.parametrize("protocol", TASK.PROTOCOLS)
def test_a_planted_signal_is_found_by_every_protocol(protocol: str) -> None:
    run = run_on(CHEXPERT, protocol)
    scores = TASK.score(TASK.predict(Columns(CHEXPERT.card.findings), run), run.protocol)
    cosine = 0.9 if protocol == "mgca" else 1.0  # its sentences do not all name the finding
    assert scores["auc:Edema"].value >= cosine
    if protocol != "mgca":
        # Cosines of several findings share one length, so that single thresholds may differ.
        assert scores["auc"].value > 0.95
        assert scores["ap"].value > 0.9


def test_chexpert_is_averaged_over_the_five_findings_of_the_paper() -> None:
    run = run_on(CHEXPERT, "g2d")
    predictions = TASK.predict(Columns(CHEXPERT.card.findings), run)
    assert set(predictions["finding"]) == set(FIVE)
    scores = TASK.score(predictions, run.protocol)
    each = [scores[f"auc:{finding}"].value for finding in FIVE]
    assert scores["auc"].value == pytest.approx(np.mean(each))


def test_another_data_set_is_scored_on_all_its_findings() -> None:
    ward = toy.card("ward", "labels", "Edema", "Fracture", "No Finding")
    run = run_on(samples(ward, 20, "t"), "g2d")
    predictions = TASK.predict(Columns(ward.findings), run)
    assert set(predictions["finding"]) == {"Edema", "Fracture"}
    assert run.details["findings_left_out"] == ["No Finding"]


def test_classes_that_exclude_each_other_have_the_accuracy_of_the_softmax() -> None:
    run = run_on(COVIDX, "g2d")
    predictions = TASK.predict(Columns(COVID), run)
    assert predictions["exclusive"].all()
    wide = predictions.pivot(index="id", columns="finding", values="score")
    assert wide.sum(axis=1).to_numpy() == pytest.approx(np.ones(30))
    scores = TASK.score(predictions, run.protocol)
    assert scores["acc"].value == 1.0
    assert scores["auc"].value == 1.0
    assert "f1" not in scores
    assert TASK.main_metric(COVIDX.card) == "acc"
    assert TASK.main_metric(CHEXPERT.card) == "auc"


def test_a_class_without_a_prompt_is_an_error() -> None:
    with pytest.raises(BadData, match="'gloria' has none for Normal, Pneumonia, COVID-19"):
        TASK.predict(Columns(COVID), run_on(COVIDX, "gloria"))
    only = PromptSet(name="two", findings={
        "Normal": FindingPrompts(positive=("normal",)),
        "Pneumonia": FindingPrompts(positive=("pneumonia",)),
    })  # fmt: skip
    settings = replace(TASK.PROTOCOLS["g2d"], prompts=only)
    with pytest.raises(BadData, match="has a class that a prompt can name not"):
        TASK.predict(Columns(COVID), run_on(COVIDX, settings))


def test_two_class_lists_judge_one_finding() -> None:
    """COVIDx's lists of two classes label COVID-19 alone: then it is scored by its two prompts."""
    only = [replace(s, labels={"COVID-19": (s.labels or {})["COVID-19"]}) for s in COVIDX]
    one = dataset(only, COVIDX_CARD)
    run = run_on(one, "g2d")
    predictions = TASK.predict(Columns(COVID), run)
    assert not predictions["exclusive"].any()
    assert set(predictions["finding"]) == {"COVID-19"}


def test_the_threshold_is_chosen_on_the_validation_split() -> None:
    run = run_on(CHEXPERT, "ours")
    model = Columns(CHEXPERT.card.findings)
    predictions = TASK.predict(model, run)
    valid = TASK.predict(model, run_on(run.valid, "ours"))
    for finding, rows in predictions.groupby("finding"):
        there = valid[valid["finding"] == finding]
        expected = mcc_threshold(there["truth"], there["score"])
        assert (rows["threshold"] == expected).all()
        assert (rows["claim"] == (rows["score"] >= expected)).all()
    scores = TASK.score(predictions, run.protocol)
    edema = predictions[predictions["finding"] == "Edema"]
    assert scores["mcc:Edema"].value == pytest.approx(
        matthews_corrcoef(edema["truth"], edema["claim"])
    )
    assert scores["acc:Edema"].value == pytest.approx(
        accuracy_score(edema["truth"], edema["claim"])
    )
    assert scores["ap:Edema"].value == pytest.approx(
        average_precision_score(edema["truth"], edema["score"])
    )
    assert scores["oracle_mcc:Edema"].value >= scores["mcc:Edema"].value


def test_test_labels_change_no_threshold_and_no_score() -> None:
    turned = [replace(s, labels={f: 1 - v for f, v in s.labels.items()}) for s in CHEXPERT]
    flipped = dataset(turned, CHEXPERT_CARD)
    one, other = (
        TASK.predict(Columns(CHEXPERT.card.findings), run_on(test, "kad"))
        for test in (CHEXPERT, flipped)
    )
    assert (one["threshold"] == other["threshold"]).all()
    assert (one["score"] == other["score"]).all()


def test_no_positive_validation_image_leaves_the_decision_undefined() -> None:
    given = samples(CHEXPERT_CARD, 9, "v")
    never = [replace(s, labels={**s.labels, "Edema": 0}) for s in given]
    valid = dataset(never, CHEXPERT_CARD)
    run = run_on(CHEXPERT, "ours", valid=valid)
    scores = TASK.score(TASK.predict(Columns(CHEXPERT.card.findings), run), run.protocol)
    assert math.isnan(scores["f1:Edema"].value)
    assert scores["auc:Edema"].value > 0.9
    assert not math.isnan(scores["f1"].value)


def test_a_fixed_threshold_needs_negative_prompts() -> None:
    names = PromptSet(name="names", positive=("{}",))
    run = run_on(CHEXPERT, replace(TASK.PROTOCOLS["g2d"], prompts=names))
    scores = TASK.score(TASK.predict(Columns(CHEXPERT.card.findings), run), run.protocol)
    assert math.isnan(scores["f1"].value)
    assert scores["auc"].value > 0.9


def test_a_model_that_matches_is_asked_in_the_wording_of_the_set() -> None:
    ward = toy.card("ward", "labels", "Mass", "Infiltration")
    test = samples(ward, 12, "t")
    for protocol, expected in (
        ("g2d", ["Mass", "Infiltration"]),
        ("kad", ["lung mass", "Infiltration"]),
        ("medklip", ["Mass", "infiltrate"]),
    ):
        model = Named(ward.findings)
        run = run_on(test, protocol)
        scores = TASK.score(TASK.predict(model, run), run.protocol)
        assert model.asked[:2] == expected
        assert scores["auc"].value == 1.0
        assert run.details["prompts"]["asked_by"] == "name"


@pytest.mark.parametrize("protocol", ["g2d", "gloria", "medclip", "ours"])
def test_batch_size_order_and_the_cache_change_nothing(protocol: str, tmp_path: Path) -> None:
    model = Columns(CHEXPERT.card.findings)
    one = TASK.predict(model, run_on(CHEXPERT, protocol, batch_size=1))
    features = FeatureFolder(tmp_path)
    for size in (7, 64):  # the second run reads what the first has written
        again = TASK.predict(model, run_on(CHEXPERT, protocol, batch_size=size, features=features))
        pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    turned = CHEXPERT.take(np.random.default_rng(1).permutation(len(CHEXPERT)).tolist())
    other = TASK.predict(model, run_on(turned, protocol))
    key = ["id", "finding"]
    pd.testing.assert_frame_equal(
        one.sort_values(key, ignore_index=True), other.sort_values(key, ignore_index=True),
        check_exact=True,
    )  # fmt: skip
    settings = TASK.PROTOCOLS[protocol]
    assert repr(TASK.score(one, settings)) == repr(TASK.score(other, settings))


def test_shuffled_labels_score_chance() -> None:
    test = samples(CHEXPERT_CARD, 200, "t", seed=3)
    order = np.random.default_rng(5).permutation(200)
    shuffled = [replace(s, labels=test[int(o)].labels) for s, o in zip(test, order, strict=True)]
    run = run_on(dataset(shuffled, CHEXPERT_CARD), "ours")
    scores = TASK.score(TASK.predict(Columns(CHEXPERT.card.findings), run), run.protocol)
    assert scores["auc"].low < 0.5 < scores["auc"].high
    assert scores["mcc"].low < 0 < scores["mcc"].high


def test_prompt_sensitivity_is_in_the_details_and_changes_no_prediction() -> None:
    model = Columns(CHEXPERT.card.findings)
    plain, asked = run_on(CHEXPERT, "ours"), run_on(CHEXPERT, "ours", prompt_sensitivity=True)
    pd.testing.assert_frame_equal(TASK.predict(model, plain), TASK.predict(model, asked))
    found = asked.details["prompt_sensitivity"]
    assert "prompt_sensitivity" not in plain.details
    assert len(found["paraphrases"]) == 8
    assert 0 <= found["min"] <= found["mean"] <= found["max"] <= 1
    classes = run_on(COVIDX, "g2d", prompt_sensitivity=True)
    TASK.predict(Columns(COVID), classes)
    assert classes.details["prompt_sensitivity"]["metric"] == "acc"
    one_class = [replace(s, labels=dict.fromkeys(FIVE, 1)) for s in CHEXPERT]
    undefined = run_on(dataset(one_class, CHEXPERT_CARD), "ours", prompt_sensitivity=True)
    TASK.predict(model, undefined)
    assert math.isnan(undefined.details["prompt_sensitivity"]["std"])
    named = run_on(CHEXPERT, "kad", prompt_sensitivity=True)
    TASK.predict(Named(CHEXPERT.card.findings), named)
    assert named.details["prompt_sensitivity"]["paraphrases"] == []


def test_details_say_which_ensemble_was_used() -> None:
    run = run_on(CHEXPERT, "biovil")
    TASK.predict(Columns(CHEXPERT.card.findings), run)
    assert run.details["prompts"]["ensemble"].startswith("normalized (the model has no embeddings")
    assert run.details["prompts"]["set"].startswith("biovil-")


def predictions() -> pd.DataFrame:
    return TASK.predict(Columns(CHEXPERT.card.findings), run_on(CHEXPERT, "g2d"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("score", float("nan"), "image 't00'"),
        ("score", float("inf"), "image 't00'"),
        ("claim", float("nan"), "image 't00'"),
        ("patient", None, "image 't00' has no patient"),
    ],
)
def test_broken_predictions_name_the_image(column: str, value: object, message: str) -> None:
    table = predictions()
    table.loc[table["id"] == "t00", column] = value
    with pytest.raises(BadResult, match=message):
        TASK.score(table, TASK.PROTOCOLS["g2d"])


def test_predictions_that_mix_classes_and_findings_are_refused() -> None:
    table = predictions()
    table.loc[0, "exclusive"] = True
    with pytest.raises(BadResult, match="exclude each other and not"):
        TASK.score(table, TASK.PROTOCOLS["g2d"])


def test_predictions_of_earlier_versions_are_still_scored() -> None:
    table = predictions()
    old = table.drop(columns=["threshold", "exclusive"])
    settings = TASK.PROTOCOLS["g2d"]
    assert repr(TASK.score(old, settings)) == repr(TASK.score(table, settings))
