"""Published augmentation of training images."""

from typing import get_args

import numpy as np
import pytest
import torch

from g2dbench.evaluation.classification.augmentation import (
    RANDOM_NUMBERS,
    Augmentation,
    augmented,
    batch,
    preprocess_for,
)
from g2dbench.preprocess import Preprocess

PREPROCESS = Preprocess(size=28, mean=(0.5,), std=(0.5,), channels=1)
MIDDLE = np.full(RANDOM_NUMBERS, 0.5)
POLICIES = get_args(Augmentation)


def image(height: int = 64, width: int = 48) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width)).astype(np.uint8)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("flips", [False, True])
def test_any_image_becomes_an_input_that_depends_on_its_numbers_alone(
    policy: Augmentation, flips: bool
) -> None:
    rng = np.random.default_rng(1)
    different = set()
    for number in range(40):
        picture = image(*((1, 1), (5, 90), (64, 48), (300, 20))[number % 4])
        uniform = rng.random(RANDOM_NUMBERS)
        one = augmented(picture, uniform, policy, PREPROCESS, flips)
        assert one.shape == (1, 28, 28)
        assert -1 <= one.min() <= one.max() <= 1
        assert torch.equal(one, augmented(picture, uniform, policy, PREPROCESS, flips))
        fixed = augmented(image(), uniform, policy, PREPROCESS, flips)
        different.add(fixed.numpy().tobytes())
    assert (len(different) == 1) == (policy == "none")


def test_without_augmentation_it_is_the_models_preprocessing() -> None:
    for shape in (PREPROCESS, Preprocess(size=28, fit="crop", resize=32, intensity="minmax")):
        for picture in (image(), image() // 3 + 20):
            assert torch.equal(augmented(picture, MIDDLE, "none", shape, True), shape(picture))


def test_mgca_pads_to_a_square_and_crops_somewhere() -> None:
    square = preprocess_for(PREPROCESS, "mgca")
    assert (square.fit, square.resize, square.size) == ("pad", 32, 28)
    assert preprocess_for(Preprocess(size=224), "mgca").resize == 256
    whole = Preprocess(size=32, fit="pad", mean=(0.5,), std=(0.5,), channels=1)(image())
    corner = augmented(image(), np.zeros(RANDOM_NUMBERS), "mgca", PREPROCESS, False)
    assert torch.equal(corner, whole[:, :28, :28])
    last = np.full(RANDOM_NUMBERS, 1 - 1e-9)
    assert torch.equal(augmented(image(), last, "mgca", PREPROCESS, False), whole[:, 4:, 4:])
    # The middle of the range is the center crop of validation images.
    assert torch.equal(augmented(image(), MIDDLE, "mgca", PREPROCESS, False), square(image()))


def test_only_a_policy_with_flips_mirrors() -> None:
    uniform = np.full(RANDOM_NUMBERS, 0.99)
    uniform[0] = 1  # the whole area
    uniform[1] = 0.5
    square = image(64, 64)
    plain = augmented(square, uniform, "resized-crop", PREPROCESS, True)
    assert torch.equal(plain, PREPROCESS(square))
    uniform[8] = 0.1
    mirrored = augmented(square, uniform, "resized-crop", PREPROCESS, True)
    assert torch.equal(mirrored, plain.flip(-1))
    assert torch.equal(augmented(square, uniform, "resized-crop", PREPROCESS, False), plain)


def test_a_batch_depends_on_its_generator_and_each_image_has_its_own_numbers() -> None:
    def made(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return batch([image()] * 3, "light", PREPROCESS, False, generator)

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))
    assert not torch.equal(made(1)[0], made(1)[1])
