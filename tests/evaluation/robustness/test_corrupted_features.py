"""Features of corrupted images: right images, cached by name, unaffected images not encoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import toy
from torch import Tensor

from g2dbench.data.store.memory import MemoryDataset
from g2dbench.evaluation import feature_cache
from g2dbench.evaluation.robustness.corrupted_features import CorruptedDataset, ImageEncoder
from g2dbench.evaluation.robustness.corruptions import Condition, conditions
from g2dbench.model import Model
from g2dbench.preprocess import Preprocess
from g2dbench.sample import Box, Sample
from g2dbench.system.machine import FeatureFolder

single_thread = toy.single_thread


class Pixels(Model):
    """Its features are the pixels; counts the images that it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.preprocess = Preprocess(size=32, channels=1)
        self.images = 0

    def pooled(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return images.flatten(1)


def images(count: int) -> MemoryDataset:
    noise = np.random.default_rng(0)
    samples = [
        Sample(
            id=f"i{n:03d}",
            patient=f"p{n}",
            image=noise.integers(0, 255, (32, 32), np.uint8),
            labels={"a": n % 2},
            boxes=(Box("a", 0, 0, 4, 4),),
        )
        for n in range(count)
    ]
    return MemoryDataset(samples, toy.card("toy", "labels", "a"), 32, "fingerprint")


def encoder(net: Pixels, data: MemoryDataset, cache: Path | None = None) -> ImageEncoder:
    run = toy.run_with(train=data, valid=data, test=data, protocol=None)
    if cache is not None:
        run = replace(run, machine=replace(run.machine, features=FeatureFolder(cache)))
    return ImageEncoder(net, lambda x: [net.pooled(x)], "pooled", run)


@pytest.mark.parametrize("condition", conditions()[::3], ids=str)
def test_the_features_are_those_of_the_corrupted_images(condition: Condition) -> None:
    data, net = images(11), Pixels()
    encode = encoder(net, data)
    clean = encode.clean(data, "")
    found = encode.corrupted(clean, condition, data, "")
    expected = net.preprocess.batch([condition(s.image, s.id) for s in data]).flatten(1)
    assert torch.equal(found, expected)
    order = [10, 0, 5]
    part = data.take(order)
    assert torch.equal(encode.corrupted(clean[order], condition, part, ""), expected[order])


def test_each_corruption_is_cached_under_its_own_name_beside_the_clean_images(
    tmp_path: Path,
) -> None:
    data, net = images(9), Pixels()
    encode = encoder(net, data, tmp_path)
    clean = encode.clean(data, "")
    first = {c: encode.corrupted(clean, c, data, "") for c in conditions()}
    names = {str(info.key["output"]) for info in feature_cache.entries(tmp_path)}
    assert len(names) == 1 + 7 * 5 + 1  # all strengths of inversion share one entry
    before = net.images
    again = encoder(net, data, tmp_path)
    assert torch.equal(again.clean(data, ""), clean)
    assert all(torch.equal(again.corrupted(clean, c, data, ""), f) for c, f in first.items())
    assert net.images == before
    plain = encoder(Pixels(), data)
    assert all(torch.equal(plain.corrupted(clean, c, data, ""), f) for c, f in first.items())


def test_unaffected_images_are_not_encoded() -> None:
    data, net = images(16), Pixels()
    encode = encoder(net, data)
    clean = encode.clean(data, "")
    weakest = Condition("inversion", 1)
    affected = [weakest.affects(sample.id) for sample in data]
    assert 0 < sum(affected) < 16
    seen: list[Tensor] = []
    net.pooled = lambda x: seen.append(x) or x.flatten(1)  # type: ignore[assignment]
    found = encode.corrupted(clean, weakest, data, "")
    assert [torch.equal(a, b) for a, b in zip(found, clean, strict=True)] == [
        not each for each in affected
    ]
    assert sum(len(batch) for batch in seen) <= 8 * -(-sum(affected) // 8)
    untouched = data.take([n for n, each in enumerate(affected) if not each])
    assert encode.corrupted(clean, weakest, untouched, "") is clean


def test_the_corrupted_data_set_keeps_labels_and_leaves_out_places() -> None:
    data = images(4)
    corrupted = CorruptedDataset(data, Condition("rotation", 5))
    assert (len(corrupted), corrupted.size, corrupted.fingerprint) == (4, 32, "fingerprint")
    assert corrupted.table.equals(data.table)
    for sample, before in zip(corrupted, data, strict=True):
        assert (sample.labels, sample.boxes) == (before.labels, None)
        assert not np.array_equal(sample.image, before.image)
    (last,) = corrupted.take([3])
    np.testing.assert_array_equal(last.image, corrupted[3].image)
