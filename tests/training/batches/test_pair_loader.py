"""The order of the data and the content of batches are functions of seed, epoch and position."""

from dataclasses import replace

import pytest
import torch
from support.data.pairs import CPU, FAKE, a_loader, some

from g2dbench.data.store.memory import MemoryDataset
from g2dbench.errors import BadData, Misuse
from g2dbench.method import Batch
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.text.tokenizer import Tokenize, train_wordpiece
from g2dbench.sample import is_frontal
from g2dbench.training.batches.collate import LoaderSettings, TokenizedReports
from g2dbench.training.batches.pair_loader import PairLoader, find_pairs, training_pairs


def same(one: Batch, other: Batch) -> bool:
    return (
        one.ids == other.ids
        and one.step == other.step
        and torch.equal(one.images, other.images)
        and torch.equal(one.tokens, other.tokens)
        and torch.equal(one.attention, other.attention)
    )


def test_an_epoch_is_a_permutation_and_epochs_and_seeds_differ() -> None:
    loader = a_loader(some(22))
    orders = [loader.order(epoch).flatten().tolist() for epoch in (0, 1)]
    assert loader.steps == 5
    assert all(len(set(order)) == 20 for order in orders)
    assert orders[0] != orders[1]
    assert orders[0] == a_loader(some(22)).order(0).flatten().tolist()
    assert orders[0] != a_loader(some(22), seed=1).order(0).flatten().tolist()


def test_an_epoch_resumed_in_its_middle_gives_the_same_batches() -> None:
    whole = list(a_loader(some(22)).epoch(3))
    rest = list(a_loader(some(22)).epoch(3, first=2))
    assert [batch.step for batch in whole] == [15, 16, 17, 18, 19]
    assert len(rest) == 3
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_workers_and_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list(a_loader(some(10)).epoch(1))
    monkeypatch.setattr("g2dbench.training.batches.pair_loader.CACHE_BYTES", 0)
    for workers in (0, 2):
        again = list(a_loader(some(10), workers=workers).epoch(1))
        assert all(same(a, b) for a, b in zip(kept, again, strict=True))


def test_augmentation_depends_on_the_image_not_on_its_batch() -> None:
    def images(batch_size: int) -> dict[str, torch.Tensor]:
        batches = a_loader(some(12), batch_size=batch_size).epoch(2)
        return {name: image for b in batches for name, image in zip(b.ids, b.images, strict=True)}

    few, many = images(3), images(6)
    assert few.keys() == many.keys()
    assert all(torch.equal(few[name], many[name]) for name in few)
    other = next(a_loader(some(12), batch_size=12).epoch(3))
    assert not torch.equal(other.images[0], few[other.ids[0]])


def test_processes_share_an_epoch_without_overlap() -> None:
    parts = [a_loader(some(26), rank=rank, world_size=3) for rank in range(3)]
    assert [part.steps for part in parts] == [2, 2, 2]
    seen = [name for part in parts for batch in part.epoch(0) for name in batch.ids]
    assert len(seen) == len(set(seen)) == 24


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fit": "crop", "resize": 36},
        {"fit": "pad", "intensity": "minmax"},
        {"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)},
        {"channels": 1},
    ],
)
def test_unaugmented_images_equal_the_inputs_of_evaluation_bit_for_bit(
    changes: dict[str, object],
) -> None:
    dataset = some(6)
    preprocess = replace(Preprocess(size=32, mean=(0.5,), std=(0.25,)), **changes)  # type: ignore[arg-type]
    pairs = find_pairs(dataset, "frontal")
    tokenize = Tokenize(train_wordpiece(pairs.reports, 60), 16)
    settings = LoaderSettings(
        preprocess=preprocess, tokenize=tokenize, batch_size=4, seed=0, device=CPU
    )
    loader = PairLoader(pairs, settings)
    plain = list(loader.unaugmented())
    assert [len(batch.ids) for batch in plain] == [4, 2]
    for batch in plain:
        for name, image in zip(batch.ids, batch.images, strict=True):
            assert torch.equal(image, preprocess(dataset[int(name[1:])].image))


def test_tokens_are_the_tokenizers_padded_to_a_multiple_of_eight() -> None:
    reports = ["left", "left lungs clear heart normal right nodule effusion clear", "heart normal"]
    tokenizer = train_wordpiece(reports, 80)
    cached = TokenizedReports(reports, Tokenize(tokenizer, 64))
    for rows in ([0], [1, 0], [2, 1, 0]):
        tokens, attention = cached.batch(torch.tensor(rows))
        expected, seen = Tokenize(tokenizer, 64)([reports[row] for row in rows])
        assert tokens.shape[1] % 8 == 0
        assert tokens.shape[1] - expected.shape[1] < 8
        assert torch.equal(tokens[:, : expected.shape[1]], expected)
        assert torch.equal(attention[:, : seen.shape[1]], seen)
        assert not attention[:, seen.shape[1] :].any()
        assert (tokens[:, seen.shape[1] :] == tokenizer.pad_token_id).all()


def test_tokens_never_exceed_the_positions_of_the_encoder() -> None:
    reports = ["left lungs clear heart normal right nodule effusion clear lungs", "left"]
    tokenizer = train_wordpiece(reports, 80)
    assert (
        TokenizedReports(reports, Tokenize(tokenizer, 11)).batch(torch.tensor([0]))[0].shape[1]
        == 11
    )
    padded = TokenizedReports(reports, Tokenize(tokenizer, 20, "max_length"))
    assert padded.batch(torch.tensor([1]))[0].shape[1] == 20


def test_only_frontal_images_with_a_report_are_pairs() -> None:
    samples = list(some(6))
    samples[0] = replace(samples[0], view="LATERAL")
    samples[1] = replace(samples[1], report=None)
    samples[2] = replace(samples[2], report=" XXXX. ")
    samples[3] = replace(samples[3], view=None)
    samples[4] = replace(samples[4], report="FINDINGS: Clear lungs. XXXX")
    dataset = MemoryDataset(samples, FAKE, 32)
    pairs = find_pairs(dataset, "frontal")
    assert pairs.ids == ("i003", "i004", "i005")
    assert pairs.reports[1] == "Clear lungs."
    assert len(pairs.dataset) == 3
    assert find_pairs(dataset, "all").ids[0] == "i000"


@pytest.mark.parametrize("view", ["PA", "AP", "Frontal", "AP_horizontal", "postero-anterior", None])
def test_frontal_views(view: str | None) -> None:
    assert is_frontal(view)


@pytest.mark.parametrize("view", ["Lateral", "LL", "L", "LATERAL", "LAO", "COSTAL", ""])
def test_other_views(view: str) -> None:
    assert not is_frontal(view)


def test_no_pairs_and_too_few_pairs_are_refused_with_a_reason() -> None:
    silent = MemoryDataset([replace(sample, report=None) for sample in some(4)], FAKE, 32)
    with pytest.raises(BadData, match="no frontal training image with a report"):
        training_pairs(silent, "frontal", 2)
    with pytest.raises(Misuse, match="3 training pairs, fewer than one batch of 8"):
        training_pairs(some(3), "frontal", 8)
