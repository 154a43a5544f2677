"""How often a paired test calls two equally good models different, by simulation.

    python benchmarks/false_positives.py [--data-sets 1000] [--metrics auc dice] [--sizes 30 100]

Patients have one to three images. Both models see the same images, half of the variance of their
scores is common to them, and neither is better. Prints the share of p-values of `g2dbench compare`
that are below .05, with its own 95 % error; it should be .05.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from g2dbench.metrics.bootstrap import mean_of
from g2dbench.metrics.classification import weighted_auc
from g2dbench.metrics.detection import CocoMatches, ImageBoxes
from g2dbench.metrics.intervals.paired_difference import paired_difference
from g2dbench.metrics.statistic import Statistic

Two = tuple[np.ndarray, Statistic, Statistic]
SIZES = (30, 100, 500)
THRESHOLDS = (0.4, 0.5, 0.6, 0.7)


def noise_of_two(generator: np.random.Generator, owner: np.ndarray) -> np.ndarray:
    """(2, N) standard normal; correlation .3 within a patient and .5 between the models."""
    patients = owner.max() + 1
    common, own = (
        np.sqrt(0.3) * generator.normal(size=(rows, patients))[:, owner]
        + np.sqrt(0.7) * generator.normal(size=(rows, owner.size))
        for rows in (1, 2)
    )
    return np.asarray(np.sqrt(0.5) * (common + own))


def auc(target: float, generator: np.random.Generator, count: int) -> Two:
    owner = np.repeat(np.arange(count), generator.integers(1, 4, count))
    truth = (generator.random(count) < 0.5)[owner].astype(float)
    first, second = noise_of_two(generator, owner) + truth * np.sqrt(2) * stats.norm.ppf(target)
    return owner, partial(weighted_auc, truth, first), partial(weighted_auc, truth, second)


def dice(generator: np.random.Generator, count: int) -> Two:
    owner = np.repeat(np.arange(count), generator.integers(1, 4, count))
    z = noise_of_two(generator, owner)
    first, second = np.where(z < -0.43, 0.0, 1 / (1 + np.exp(-(z + 0.8) * 1.5)))
    return owner, mean_of(first), mean_of(second)


def average_map(generator: np.random.Generator, count: int) -> Two:
    owner = np.repeat(np.arange(count), generator.integers(1, 4, count))
    qualities = noise_of_two(generator, owner)
    truths = [lesions(generator) for _ in owner]
    first, second = (
        CocoMatches(
            [detections(generator, t, q) for t, q in zip(truths, row, strict=True)], THRESHOLDS
        ).statistics()["map"]
        for row in qualities
    )
    return owner, first, second


def lesions(generator: np.random.Generator) -> np.ndarray:
    """None to two boxes of 30 x 30 pixels."""
    start = generator.uniform(0, 60, (generator.integers(0, 3), 2))
    return np.hstack([start, start + 30])


def detections(generator: np.random.Generator, truth: np.ndarray, quality: float) -> ImageBoxes:
    """The lesions, found more or less well, and some false positives."""
    moved = truth + generator.normal(0, 6 * np.exp(-quality / 2), truth.shape)
    corners = np.hstack([np.minimum(moved[:, :2], moved[:, 2:]),
                         np.maximum(moved[:, :2], moved[:, 2:])])  # fmt: skip
    extra = generator.uniform(0, 60, (generator.poisson(0.7), 2))
    found = np.vstack([corners, np.hstack([extra, extra + 30])])
    confidence = np.concatenate([
        generator.beta(4, 2, len(truth)), generator.beta(2, 4, len(extra)),
    ])  # fmt: skip
    order = np.argsort(-confidence, kind="stable")
    return ImageBoxes(found[order], confidence[order], truth)


METRICS: dict[str, Callable[[np.random.Generator, int], Two]] = {
    "auc.75": partial(auc, 0.75),
    "auc.95": partial(auc, 0.95),
    "map": average_map,
    "dice": dice,
}


def measure(name: str, count: int, data_sets: int, resamples: int) -> str:
    """One line of the table."""
    generator = np.random.default_rng(count)
    p_values = []
    for _ in range(data_sets):
        owner, first, second = METRICS[name](generator, count)
        found = paired_difference([(first, second)], owner.astype(object), resamples=resamples)
        p_values.append(found.p_value)
    defined = np.array(p_values)[~np.isnan(p_values)]
    share = float((defined < 0.05).mean())
    error = 1.96 * (share * (1 - share) / defined.size) ** 0.5
    return f"{name:8s} {count:4d}  {share:6.1%} +-{error:4.1%}  of {defined.size} by {found.test}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--metrics", nargs="*", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    args = parser.parse_args()
    print("metric patients  p < .05")
    for name in args.metrics:
        for count in args.sizes:
            start = time.perf_counter()
            line = measure(name, count, args.data_sets, args.resamples)
            print(f"{line}, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
