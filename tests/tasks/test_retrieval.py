"""Retrieval over the full pool: ranks by hand, copies of reports, classes, bad input."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import toy
from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import DatasetCard, TaskCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, BadResult, Unsupported
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.registry import Registry
from g2dbench.sample import Sample
from g2dbench.system.machine import FeatureFolder
from g2dbench.task import Run

TASK = Registry().find(TaskCard, "retrieval").load()
FULL, CLASS = TASK.PROTOCOLS["full"], TASK.PROTOCOLS["class"]
SIDE = 8
FINDINGS = ("Edema", "Pneumonia", "Cardiomegaly")
CARD = replace(toy.card("pairs", "reports", *FINDINGS), offers=("reports", "labels"))
single_thread = toy.single_thread


class Codes(Model):
    """Reads the same number from the image's first row and from the report's last word.

    noise: of the image's embedding; the report's number is its direction.
    """

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=SIDE, channels=1)
        self.identity = Identity("codes", "0" * 64)
        self.noise = noise
        self.read: list[str] = []

    def embed_images(self, x: Tensor) -> Tensor:
        codes = x[:, 0, 0].reshape(len(x), SIDE) - 0.5
        return F.normalize(codes + self.noise * (x[:, 0, 1] - 0.5), dim=1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        assert len(texts) == 1, "texts are encoded alone"
        self.read += texts
        return F.normalize(torch.tensor([code(text) for text in texts]) / 255 - 0.5, dim=1)


def code(text: str) -> list[float]:
    """SIDE pixel values for a report, by its words without punctuation."""
    words = " ".join(text.lower().replace(".", "").split())
    generator = np.random.default_rng(zlib.crc32(words.encode()))
    return generator.integers(0, 256, SIDE).astype(float).tolist()


def sample(name: str, report: str | None, **more: Any) -> Sample:
    """The image whose first row is the report's code; noise below."""
    image = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (SIDE, SIDE))
    image = image.astype(np.uint8)
    if report is not None:
        image[0] = code(report)
    base = {"patient": f"p-{name}", "study": f"s-{name}", "view": "PA"}
    return Sample(id=name, image=image, report=report, **(base | more))


def dataset(samples: Sequence[Sample], card: DatasetCard = CARD) -> MemoryDataset:
    return MemoryDataset(samples, card, SIDE, "toy")


def pairs(count: int, different: int | None = None) -> MemoryDataset:
    """Pairs with `different` reports, the rest are copies."""
    reports = [f"The study shows pattern number {n % (different or count)}." for n in range(count)]
    return dataset([sample(f"i{n:03d}", text) for n, text in enumerate(reports)])


def run_on(test: MemoryDataset, protocol: Any = FULL, **more: Any) -> Run:
    return toy.run_with(
        train=test.take([]), valid=test.take([]), test=test, protocol=protocol, **more
    )


def scores_of(model: Model, run: Run) -> dict[str, Any]:
    return TASK.score(TASK.predict(model, run), run.protocol)


def test_a_perfect_model_finds_every_partner() -> None:
    run = run_on(pairs(30))
    scores = scores_of(Codes(), run)
    for name in ("r1", "r5", "r10", "mrr", "strict_r1", "strict_mrr", "image_to_text_r1",
                 "text_to_image_r1", "median_rank"):  # fmt: skip
        assert scores[name].value == 1.0, name
    assert scores["r1"].n == 30
    assert run.details["pool"] == {
        "pairs": 30, "studies": 30, "different_reports": 30, "queries_with_copies": 0,
    }  # fmt: skip


def test_copies_of_a_report_are_hits_and_the_strict_count_stands_beside() -> None:
    """40 pairs, 10 reports, 4 copies each: the model cannot tell copies apart."""
    model, run = Codes(), run_on(pairs(40, different=10))
    table = TASK.predict(model, run)
    assert len(model.read) == 10, "a report is encoded once"
    assert (table["hits"] == 4).all()
    assert (table["rank"] == 1).all()
    assert (table["strict_rank"] == 4).all()  # three copies are as similar: they count against it
    scores = TASK.score(table, FULL)
    assert (scores["r1"].value, scores["strict_r1"].value, scores["strict_r5"].value) == (1, 0, 1)
    assert scores["strict_mrr"].value == 0.25
    assert run.details["pool"]["queries_with_copies"] == 40


def test_images_of_one_study_share_its_report() -> None:
    views = [sample(f"v{n}", "one report of the study", study="s") for n in range(2)]
    others = [sample(f"o{n}", f"another report, number {n}") for n in range(4)]
    table = TASK.predict(Codes(), run_on(dataset([*views, *others])))
    assert table["hits"].tolist() == 2 * [2, 2, 1, 1, 1, 1]


def test_ranks_by_hand() -> None:
    test, model = pairs(25), Codes(noise=0.8)
    table = TASK.predict(model, run_on(test)).set_index(["direction", "id"])
    images = model.embed_images(model.preprocess.batch([s.image for s in test])).double().numpy()
    texts = torch.cat([model.embed_texts([s.report or ""]) for s in test]).double().numpy()
    cosine = images @ texts.T
    own = np.diag(cosine)
    assert table.loc["image_to_text"]["rank"].tolist() == (cosine >= own[:, None]).sum(1).tolist()
    assert table.loc["text_to_image"]["rank"].tolist() == (cosine >= own).sum(0).tolist()
    scores = TASK.score(table.reset_index(), FULL)
    rank = table["rank"].to_numpy()
    assert scores["r5"].value == pytest.approx((rank <= 5).mean())
    assert scores["mrr"].value == pytest.approx((1 / rank).mean())
    assert scores["image_to_text_median_rank"].value == np.median(rank[:25])
    assert scores["r1"].low <= scores["r1"].value <= scores["r1"].high


def test_shuffled_pairs_score_chance() -> None:
    test = pairs(200)
    order = np.random.default_rng(1).permutation(200)
    shuffled = dataset(
        [replace(s, report=test[int(o)].report) for s, o in zip(test, order, strict=True)]
    )
    scores = scores_of(Codes(), run_on(shuffled))
    chance = sum(1 / rank for rank in range(1, 201)) / 200
    assert scores["mrr"].low < chance < scores["mrr"].high
    assert scores["r10"].low < 10 / 200 < scores["r10"].high


@pytest.mark.parametrize("protocol", [FULL, CLASS])
def test_batch_size_order_and_the_cache_change_nothing(protocol: Any, tmp_path: Path) -> None:
    test = labeled(12)
    model = Codes(noise=0.5)
    one = TASK.predict(model, run_on(test, protocol, batch_size=1))
    features = FeatureFolder(tmp_path)
    for size in (5, 64):
        again = TASK.predict(model, run_on(test, protocol, batch_size=size, features=features))
        pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    turned = test.take(np.random.default_rng(0).permutation(len(test)).tolist())
    other = TASK.predict(model, run_on(turned, protocol))
    keys = ["direction", "id"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True),
        check_exact=True,
    )  # fmt: skip
    assert repr(TASK.score(one, protocol)) == repr(TASK.score(other, protocol))


def labeled(count: int, signal: bool = True) -> MemoryDataset:
    """`count` images of each class; image and report of a class have nearly one code."""
    made = []
    for finding in FINDINGS:
        for n in range(count):
            report = f"{finding} is present"
            labels = {name: int(name == finding) for name in FINDINGS}
            one = sample(
                f"{finding}-{n}", report if signal else f"case {finding} {n}", labels=labels
            )
            made.append(replace(one, report=report))
    return dataset(made)


def test_classes_that_are_apart_are_found() -> None:
    run = run_on(labeled(8), CLASS)
    table = TASK.predict(Codes(), run)
    assert list(table.columns) == [
        "id", "patient", "direction", "finding", "p1", "p5", "p10", "p100", "chance",
    ]  # fmt: skip
    scores = TASK.score(table, CLASS)
    for name in ("r1", "p5", "image_to_image_p5", "image_to_text_p5", "image_to_image_r1:Edema"):
        assert scores[name].value == 1.0, name
    # Of 23 others 7 are of the class: 7 of the first 10.
    assert scores["image_to_image_p10"].value == pytest.approx(0.7)
    assert scores["image_to_image_chance"].value == pytest.approx(7 / 23)
    assert np.isnan(scores["p100"].value)
    assert scores["r1"].n == 24
    assert run.details["pool"]["images_by_class"] == dict.fromkeys(sorted(FINDINGS), 8)
    # MGCA has a sentence for each of the three classes
    assert scores["text_to_image_p5"].n == 3


def test_images_without_a_common_direction_score_chance() -> None:
    scores = scores_of(Codes(), run_on(labeled(40, signal=False), CLASS))
    expected = scores["image_to_image_chance"].value
    assert scores["image_to_image_p10"].low < expected < scores["image_to_image_p10"].high


def test_an_image_with_several_labels_is_no_query() -> None:
    both = replace(labeled(3)[0], id="both", labels=dict.fromkeys(FINDINGS, 1))
    uncertain = replace(labeled(3)[0], id="unsure", labels={"Edema": -1, "Pneumonia": 0})
    table = TASK.predict(Codes(), run_on(dataset([*labeled(3), both, uncertain]), CLASS))
    assert not {"both", "unsure"} & set(table["id"])


def test_at_most_200_of_each_class_whatever_the_order() -> None:
    few = replace(CLASS, per_class=4)
    test = labeled(9)
    one = TASK.predict(Codes(), run_on(test, few))
    other = TASK.predict(Codes(), run_on(test.take(range(len(test) - 1, -1, -1)), few))
    images = one[one["direction"] == "image_to_image"]
    assert images["finding"].value_counts().tolist() == [4, 4, 4]
    assert set(one["id"]) == set(other["id"])


def test_class_retrieval_without_reports() -> None:
    test = labeled(4)
    card = replace(CARD, offers=("labels",))
    bare = dataset([replace(s, report=None) for s in test], card)
    scores = scores_of(Codes(), run_on(bare, CLASS))
    assert "image_to_text_p5" not in scores
    assert scores["r1"].value == 1.0
    with pytest.raises(Unsupported, match="retrieval:full needs reports; pairs offers labels"):
        TASK.predict(Codes(), run_on(bare))


def test_what_cannot_be_retrieved_is_an_error() -> None:
    class Mute(Model):
        identity = Identity("mute", "0")

    with pytest.raises(Unsupported, match="retrieval needs a model that offers embeds"):
        TASK.predict(Mute(), run_on(pairs(4)))
    one = dataset([sample("a", "a report"), sample("b", None)])
    with pytest.raises(BadData, match="1 of the 2 test images of pairs have a report"):
        TASK.predict(Codes(), run_on(one))
    single = dataset([s for s in labeled(4) if s.labels and s.labels["Edema"]])
    with pytest.raises(BadData, match="1 classes with two images"):
        TASK.predict(Codes(), run_on(single, CLASS))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rank", 0, "rank of query 'i000' is no place in its pool"),
        ("rank", float("nan"), "rank of query 'i000'"),
        ("strict_rank", 99, "strict_rank of query 'i000'"),
        ("patient", None, "image 'i000' has no patient"),
        ("direction", "text_to_image", "the query 'i000' twice"),
    ],
)
def test_broken_predictions_name_the_query(column: str, value: object, message: str) -> None:
    table = TASK.predict(Codes(), run_on(pairs(5))).astype(object)
    table.loc[0, column] = value
    with pytest.raises(BadResult, match=message):
        TASK.score(table, FULL)


def test_missing_columns_and_directions_are_refused() -> None:
    table = TASK.predict(Codes(), run_on(pairs(5)))
    with pytest.raises(BadResult, match="strict_rank"):
        TASK.score(table.drop(columns="strict_rank"), FULL)
    with pytest.raises(BadResult, match="different queries"):
        TASK.score(table[table["direction"] == "image_to_text"], FULL)
    by_class = TASK.predict(Codes(), run_on(labeled(4), CLASS))
    by_class.loc[0, "p5"] = 1.5
    with pytest.raises(BadResult, match="p5 of the query"):
        TASK.score(by_class, CLASS)


def test_scores_are_the_same_after_storage(tmp_path: Path) -> None:
    for protocol, test in ((FULL, pairs(9)), (CLASS, labeled(4))):
        table = TASK.predict(Codes(noise=0.5), run_on(test, protocol))
        table.to_parquet(tmp_path / "p.parquet")
        again = TASK.score(pd.read_parquet(tmp_path / "p.parquet"), protocol)
        assert repr(again) == repr(TASK.score(table, protocol))


def test_classes_count_the_same_whatever_their_size() -> None:
    few = [s for s in labeled(12) if not s.id.startswith("Edema") or int(s.id[-1]) < 3]
    run = run_on(dataset(few), CLASS)
    scores = TASK.score(TASK.predict(Codes(noise=2.0), run), CLASS)
    each = [scores[f"image_to_image_p5:{finding}"].value for finding in FINDINGS]
    assert scores["image_to_image_p5"].value == pytest.approx(np.mean(each))
    assert scores["p5"].value == pytest.approx(
        (scores["image_to_image_p5"].value + scores["image_to_text_p5"].value) / 2
    )
