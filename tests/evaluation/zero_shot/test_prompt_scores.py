"""Ensembles of prompts by hand, texts encoded alone, paraphrases and their spread."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.errors import BadData
from g2dbench.evaluation.prompts import FindingPrompts, PromptSet, load_prompts
from g2dbench.evaluation.zero_shot.prompt_scores import (
    TextEmbedder,
    paraphrases,
    prompt_scores,
    prompt_vectors,
)
from g2dbench.evaluation.zero_shot.sensitivity import spread
from g2dbench.model import Embeds

TEXTS = {"a": (3.0, 0.0), "b": (0.0, 1.0), "no a": (-1.0, 0.0), "c": (0.6, 0.8)}
IMAGES = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 2.0]]), dim=1)


class Texts:
    """Embeds the texts of `TEXTS`; records what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed_images(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        assert len(texts) == 1, "texts are encoded alone"
        self.asked += texts
        return F.normalize(torch.tensor([TEXTS[text] for text in texts]), dim=1)


class RawTexts(Texts):
    def project_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([TEXTS[text] for text in texts])


def vector(model: Embeds, ensemble: str) -> list[float]:
    found = prompt_vectors(TextEmbedder(model), [("a", "b")], ensemble)
    assert found.single
    return [round(float(v), 6) for v in found.vectors[0]]


def test_ensembles_by_hand() -> None:
    half, third = round(0.5**0.5, 6), 10**0.5
    assert vector(Texts(), "normalized") == [half, half]
    assert vector(Texts(), "mean_cosine") == [0.5, 0.5]
    # before normalization the first prompt is three times as long
    assert vector(RawTexts(), "raw") == [round(3 / third, 6), round(1 / third, 6)]
    assert vector(Texts(), "raw") == [half, half]


def test_the_highest_cosine_of_several_prompts() -> None:
    prompts = [("a", "b"), ("c",)]
    found = prompt_vectors(TextEmbedder(Texts()), prompts, "max").cosines(IMAGES)
    units = [np.array(TEXTS[t]) / np.linalg.norm(TEXTS[t]) for t in ("a", "b", "c")]
    expected = [[max(i @ units[0], i @ units[1]), i @ units[2]] for i in IMAGES.double().numpy()]
    assert found == pytest.approx(np.array(expected), abs=1e-6)


def test_scores_with_and_without_a_negative_prompt() -> None:
    asked = [
        FindingPrompts(positive=("a",), negative=("no a",)),
        FindingPrompts(positive=("b",)),
    ]
    found = prompt_scores(TextEmbedder(Texts()), IMAGES, asked, "normalized")
    cosine = IMAGES.double().numpy()
    assert found[:, 0] == pytest.approx(1 / (1 + np.exp(-2 * cosine[:, 0])), abs=1e-6)
    assert found[:, 1] == pytest.approx((1 + cosine[:, 1]) / 2, abs=1e-6)


def test_classes_that_exclude_each_other_share_one_softmax() -> None:
    asked = [FindingPrompts(positive=(text,), negative=("no a",)) for text in ("a", "b", "c")]
    found = prompt_scores(TextEmbedder(Texts()), IMAGES, asked, "normalized", exclusive=True)
    assert found.sum(axis=1) == pytest.approx(np.ones(3))
    cosines = np.array([[i @ np.array(F.normalize(torch.tensor(TEXTS[t]), dim=0)) for t in "abc"]
                        for i in IMAGES.numpy()])  # fmt: skip
    assert (found.argmax(1) == cosines.argmax(1)).all()


def test_a_text_whose_embedding_is_not_finite_is_quoted() -> None:
    class Broken(Texts):
        def embed_texts(self, texts: Sequence[str]) -> Tensor:
            return torch.full((1, 2), torch.nan)

    with pytest.raises(BadData, match="the text 'no effusion' is not finite"):
        TextEmbedder(Broken())(["no effusion"])


def test_each_text_is_encoded_once() -> None:
    model = Texts()
    embed = TextEmbedder(model)
    embed(["a", "b", "a"])
    embed(["b"])
    assert model.asked == ["a", "b"]


def test_a_paraphrase_takes_one_prompt_of_each_finding() -> None:
    prompts = PromptSet(
        name="x", positive=("{}", "see {}", "{} here"), negative=("no {}", "not {}")
    )
    found = paraphrases(prompts, ("Edema",))
    assert [(p.positive, p.negative) for (p,) in found] == [
        (("edema",), ("no edema",)),
        (("see edema",), ("not edema",)),
        (("edema here",), ("no edema",)),
    ]
    assert len(paraphrases(load_prompts("biovil"), ("Pneumonia", "Edema"))) == 4


class Words(Texts):
    """A text's angle is its number of letters: paraphrases differ."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        angle = torch.tensor([[len(text) * 0.37] for text in texts])
        return torch.cat([angle.sin(), angle.cos()], dim=1)


def test_the_spread_over_paraphrases() -> None:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(40, 2, generator=generator), dim=1)
    truth = (images[:, :1] > 0).double().numpy()
    found = spread(TextEmbedder(Words()), images, truth, load_prompts("ours"), ("Edema",), False)
    values = [one["value"] for one in found["paraphrases"]]
    assert len(values) == 8
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["std"] == pytest.approx(np.std(values, ddof=1))
    assert found["metric"] == "auc"
    # one template has no spread: those of `ours` are used, and the result says so
    other = spread(TextEmbedder(Words()), images, truth, load_prompts("g2d"), ("Edema",), False)
    assert other["set"].startswith("ours-")
    assert [one["value"] for one in other["paraphrases"]] == values
