"""Zero-shot classification: pairs of prompts, and models that match findings."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from support import toy
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import TaskCard
from g2dbench.errors import BadData, Unsupported
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.task import Run

CPU = torch.device("cpu")
TASK = Registry().find(TaskCard, "zeroshot").load()
G2D, BIOVIL = TASK.PROTOCOLS["g2d"], TASK.PROTOCOLS["biovil"]
METRICS = ("auc", "f1", "acc", "oracle_f1")
single_thread = toy.single_thread


class Memory(toy.Memory):
    card, size = toy.card("toy", "labels", "Bright"), 8


class Base(Model):
    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=8, channels=1)
        self.identity = Identity("toy-model", "0" * 64)


class Embedder(Base):
    """Embeds brightness as an angle; a negative prompt has the angle of dark images."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def embed_images(self, x: Tensor) -> Tensor:
        angle = x.mean((1, 2, 3)) * math.pi / 2
        return torch.stack([angle.sin(), angle.cos()], 1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        self.read += texts
        denied = [any(w in t.lower().split() for w in ("no", "not")) for t in texts]
        return F.normalize(torch.tensor([[0.1, 1.0] if d else [1.0, 0.1] for d in denied]), dim=1)


class Matcher(Base):
    """The probability of every finding is the image's brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.findings: tuple[str, ...] = ()

    def match(self, x: Tensor, findings: Sequence[str]) -> Tensor:
        self.findings = tuple(findings)
        return x.mean((1, 2, 3))[:, None].expand(-1, len(findings))


class Both(Matcher, Embedder):
    pass


def part(labels: Sequence[Mapping[str, float]]) -> Memory:
    """Image i is brighter the larger its label "Bright" and its number are."""
    samples = []
    for i, given in enumerate(labels):
        value = 40 + 120 * (given["Bright"] == 1) + 2 * i
        image = np.full((8, 8), value, np.uint8)
        samples.append(Sample(id=f"i{i:02d}", image=image, patient=f"p{i // 2}", labels=given))
    return Memory(samples)


DATA = part([{"Bright": i % 2} for i in range(20)])


def run_on(test: Memory = DATA, **settings: object) -> Run:
    base = {"train": Memory([]), "valid": Memory([]), "protocol": G2D, "device": CPU}
    return toy.run_with(test=test, **(base | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [Embedder, Matcher])
@pytest.mark.parametrize("protocol", [G2D, BIOVIL])
def test_a_perfect_model_scores_1(build: type[Base], protocol: object) -> None:
    predictions = TASK.predict(build(), run_on(protocol=protocol))
    assert list(predictions) == [
        "id", "patient", "finding", "truth", "score", "claim", "threshold", "exclusive",
    ]  # fmt: skip
    scores = TASK.score(predictions, protocol)
    assert [scores[name].value for name in METRICS] == [1, 1, 1, 1]
    assert scores["auc"].n == scores["auc:Bright"].n == 20


def test_the_score_is_the_softmax_of_the_two_cosines_without_a_temperature() -> None:
    model = Embedder()
    predictions = TASK.predict(model, run_on())
    images = model.embed_images(model.preprocess.batch([s.image for s in DATA]))
    model.read.clear()
    texts = model.embed_texts(["bright", "no bright"])
    expected = (images @ texts.T).softmax(1)[:, 0]
    assert predictions["score"].to_numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert ((expected > 0.5).numpy() == (predictions["claim"] == 1)).all()


def test_prompts_of_each_protocol() -> None:
    model = Embedder()
    TASK.predict(model, run_on())
    assert model.read == ["bright", "no bright"]
    model.read.clear()
    TASK.predict(model, run_on(protocol=BIOVIL))
    assert model.read[0] == "Findings consistent with bright"
    assert "There is no bright" in model.read
    assert tuple(TASK.PROTOCOLS) == TASK.CARD.protocols


def test_a_model_that_matches_gets_the_names_of_findings() -> None:
    model = Both()
    TASK.predict(model, run_on())
    assert model.findings == ("Bright",)
    assert model.read == []


def test_the_same_numbers_for_any_batch_size_and_order() -> None:
    one, other = (TASK.predict(Embedder(), run_on(batch_size=size)) for size in (3, 16))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    turned = TASK.predict(Embedder(), run_on(DATA.take(np.random.default_rng(0).permutation(20))))
    pd.testing.assert_frame_equal(
        one, turned.sort_values("id", ignore_index=True), check_exact=True
    )
    assert repr(TASK.score(turned, G2D)) == repr(TASK.score(one, G2D))


def test_unlabeled_images_one_class_and_no_finding_are_excluded() -> None:
    labels = [
        {
            "Bright": i % 2, "Never": math.nan, "Always": 1,
            "Half": (-1, math.nan, 0, 1)[i % 4], "No Finding": i % 2,
        }
        for i in range(20)
    ]  # fmt: skip
    predictions = TASK.predict(Embedder(), run_on(part(labels)))
    assert set(predictions["finding"]) == {"Bright", "Always", "Half"}
    scores = TASK.score(predictions, G2D)
    assert all(math.isnan(scores[f"{metric}:Always"].value) for metric in METRICS)
    assert scores["auc:Half"].n == 10
    expected = (scores["auc:Bright"].value + scores["auc:Half"].value) / 2
    assert scores["auc"].value == pytest.approx(expected)


def test_scores_worked_by_hand_and_by_sklearn() -> None:
    truth, value = [1, 0, 1, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.2, 0.4]
    decision = [float(v > 0.5) for v in value]
    table = pd.DataFrame(
        {
            "id": list("abcdef"), "patient": list("uvwxyz"), "finding": "x",
            "truth": truth, "score": value, "claim": decision,
        }
    )  # fmt: skip
    scores = TASK.score(table, G2D)
    assert scores["auc"].value == pytest.approx(roc_auc_score(truth, value))
    assert scores["f1"].value == pytest.approx(f1_score(truth, decision))
    assert scores["acc"].value == pytest.approx(accuracy_score(truth, decision))
    # The best threshold is .4: 3 of 5 positive predictions are right, none is missed.
    assert scores["oracle_f1"].value == pytest.approx(2 * 3 / (5 + 3))
    assert scores["oracle_f1"].value > scores["f1"].value
    assert repr(TASK.score(table.sample(frac=1, random_state=1), G2D)) == repr(scores)


def test_what_cannot_be_prompted_is_an_error() -> None:
    with pytest.raises(Unsupported, match="zeroshot needs a model that offers embeds or matches"):
        TASK.predict(Base(), run_on())
    with pytest.raises(BadData, match="no labels 1 or 0"):
        TASK.predict(Embedder(), run_on(part([{"Bright": -1}])))
    only = Memory([Sample(id="a", image=DATA[0].image, patient="p", labels={"No Finding": 1})])
    with pytest.raises(BadData, match="no finding that a prompt can name"):
        TASK.predict(Embedder(), run_on(only))
