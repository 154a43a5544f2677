"""Fine-tuning of a whole encoder: every protocol, saved heads, and what is published."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import toy
from support.classification import SmallCnn, part, shuffled, stripes

from g2dbench.cards import TaskCard
from g2dbench.errors import Unsupported
from g2dbench.evaluation.heads.saved_head import HEAD_FILE, load_head
from g2dbench.model import Identity, Model
from g2dbench.registry import Registry
from g2dbench.system.overrides import override
from g2dbench.task import Run

TASK = Registry().find(TaskCard, "finetune").load()
NAMES = tuple(TASK.PROTOCOLS)
single_thread = toy.single_thread


def quick(name: str, *changes: str) -> Any:
    """The protocol with few and large steps, at the toy images' size."""
    few = ["lr=0.02", "batch_size=8", "size=16"]
    few += ["steps=30", "warmup_steps=3"] if name == "mrm" else ["epochs=10"]
    few += ["warmup_epochs=1"] if name not in ("mrm", "g2d", "medklip") else []
    return override(override(TASK.PROTOCOLS[name], few)[0], changes)[0]


def run_on(**given: Any) -> Run[Any]:
    base = {
        "train": part("train", 40), "valid": part("va", 16), "test": part("t", 20),
        "device": torch.device("cpu"),
    }  # fmt: skip
    return toy.run_with(**(base | given))


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_learns_a_planted_signal(name: str) -> None:
    # Mirrored images exchange left and right, which is half of the signal here.
    protocol = quick(name, *(["flips=false", "augmentation=none"] if name != "ours" else []))
    scores = TASK.score(TASK.predict(SmallCnn(), run_on(protocol=protocol)), protocol)
    assert scores["auc"].value > 0.97


@pytest.mark.parametrize("name", NAMES)
def test_shuffled_labels_score_chance(name: str) -> None:
    run = run_on(
        protocol=quick(name, *(["epochs=3"] if name != "mrm" else [])),
        train=shuffled("train", 24), valid=shuffled("va", 16), test=shuffled("test", 60),
    )  # fmt: skip
    score = TASK.score(TASK.predict(SmallCnn(), run), run.protocol)["auc"]
    assert score.low < 0.5 < score.high


@pytest.mark.parametrize("name", ["medklip", "ours"])
def test_the_result_depends_on_nothing_but_data_protocol_and_seed(
    name: str, tmp_path: Path
) -> None:
    protocol = quick(name, "epochs=2")
    order = np.random.default_rng(0).permutation(20)
    runs = (
        run_on(protocol=protocol, batch_size=3),
        run_on(protocol=protocol, batch_size=16, folder=tmp_path, save_heads=True),
        run_on(protocol=protocol, test=part("t", 20).take(order)),
    )
    model = SmallCnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tables = [
        TASK.predict(model, run).sort_values(["id", "finding"], ignore_index=True) for run in runs
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, check_exact=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    again = TASK.apply(model, load_head(tmp_path / HEAD_FILE), run_on(protocol=protocol))
    again = again.sort_values(["id", "finding"], ignore_index=True)
    pd.testing.assert_frame_equal(tables[0], again, check_exact=True)
    other_seed = TASK.predict(model, run_on(protocol=protocol, seed=1))
    assert not other_seed["score"].equals(tables[0]["score"])


def test_classes_that_exclude_each_other_use_softmax() -> None:
    protocol = quick("g2d")
    run = run_on(
        protocol=protocol,
        train=stripes("train", 30), valid=stripes("va", 15), test=stripes("test", 15),
    )  # fmt: skip
    predictions = TASK.predict(SmallCnn(), run)
    assert np.allclose(predictions.groupby("id")["score"].sum(), 1)
    assert TASK.score(predictions, protocol)["acc"].value > 0.5


def test_mixed_precision_gives_scores_without_ties() -> None:
    protocol = quick("ours", "epochs=2")
    predictions = TASK.predict(SmallCnn(), run_on(protocol=protocol, precision="bf16"))
    assert predictions["score"].nunique() > 30


def test_mrms_rates_and_steps_depend_on_the_fraction() -> None:
    protocol = TASK.PROTOCOLS["mrm"]
    found = {f: TASK.settings_for(protocol, f) for f in (0.01, 0.1, 1.0)}
    assert [(s.lr, s.steps, s.warmup_steps) for s in found.values()] == [
        (3e-2, 3000, 50), (3e-3, 30_000, 500), (3e-3, 200_000, 5000),
    ]  # fmt: skip
    changed, _ = override(protocol, ["steps=7"])
    assert TASK.settings_for(changed, 0.01).steps == 7


def test_the_published_protocols_are_pinned() -> None:
    table = {
        name: (p.size, p.augmentation, p.train.lr, p.train.weight_decay, p.train.batch_size)
        for name, p in TASK.PROTOCOLS.items()
    }
    assert tuple(table) == TASK.CARD.protocols
    assert table["g2d"] == (256, "none", 1e-4, 0, 64)
    assert table["kad"] == (224, "none", 1e-4, 0.02, 64)
    assert table["medklip"] == (224, "randaugment", 1e-5, 0.02, 64)
    assert table["mrm"] == (224, "resized-crop", 3e-3, 0, 96)


def test_a_model_without_features_is_unsupported() -> None:
    class Blind(Model):
        identity = Identity("blind", "0" * 64)

    with pytest.raises(Unsupported, match="finetune needs a model that offers features"):
        TASK.predict(Blind(), run_on(protocol=dataclasses.replace(TASK.PROTOCOLS["g2d"])))
