"""How often a 95 % confidence interval contains the true value, by simulation.

    python benchmarks/coverage.py [--data-sets 300] [--metrics auc.95 dice ...]

Patients have one to three images with correlated scores. The true value is that of a very large
sample. Prints coverage and the misses on each side for the interval of g2dbench and for the
percentile bootstrap.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from g2dbench.metrics.bootstrap import bootstrap, mean_of
from g2dbench.metrics.classification import weighted_auc, weighted_f1
from g2dbench.metrics.detection import CocoMatches, ImageBoxes
from g2dbench.metrics.intervals.jackknife import jackknife_intervals
from g2dbench.metrics.ranking import RankedScores
from g2dbench.metrics.statistic import Statistic

Data = tuple[np.ndarray, Statistic]
SIZES = (30, 100, 500)
LARGE = 20_000


def patients_of(generator: np.random.Generator, count: int) -> np.ndarray:
    """Patient numbers of images: one to three images each."""
    return np.repeat(np.arange(count), generator.integers(1, 4, count))


def correlated(generator: np.random.Generator, owner: np.ndarray) -> np.ndarray:
    """Standard normal numbers, correlation .3 within a patient."""
    shared = generator.normal(size=owner.max() + 1)[owner]
    own = generator.normal(size=owner.size)
    mixed: np.ndarray = np.sqrt(0.3) * shared + np.sqrt(0.7) * own
    return mixed


def scores(generator: np.random.Generator, count: int, auc: float) -> tuple[np.ndarray, ...]:
    """Patients, truth and scores of a finding that half of the patients have."""
    owner = patients_of(generator, count)
    truth = (generator.random(count) < 0.5)[owner].astype(float)
    value = correlated(generator, owner) + truth * np.sqrt(2) * stats.norm.ppf(auc)
    return owner, truth, value


def auc(target: float, generator: np.random.Generator, count: int) -> Data:
    owner, truth, value = scores(generator, count, target)
    return owner, partial(weighted_auc, truth, value)


def average_precision(generator: np.random.Generator, count: int) -> Data:
    owner, truth, value = scores(generator, count, 0.85)
    ranked = RankedScores(truth, value)
    return owner, partial(ranked.value, "ap")


def f1(generator: np.random.Generator, count: int) -> Data:
    owner, truth, value = scores(generator, count, 0.85)
    return owner, partial(weighted_f1, truth, (value > 0.7).astype(float))


def per_image(
    transform: Callable[[np.ndarray], np.ndarray], g: np.random.Generator, n: int
) -> Data:
    owner = patients_of(g, n)
    return owner, mean_of(transform(correlated(g, owner)))


def dice_values(z: np.ndarray) -> np.ndarray:
    """Dice between 0 and 1 with a third of complete misses."""
    return np.where(z < -0.43, 0.0, 1 / (1 + np.exp(-(z + 0.8) * 1.5)))


def iou_values(z: np.ndarray) -> np.ndarray:
    values: np.ndarray = dice_values(z) / (2 - dice_values(z))
    return values


def average_map(generator: np.random.Generator, count: int) -> Data:
    owner = patients_of(generator, count)
    quality = correlated(generator, owner)
    images = [boxes(generator, q) for q in quality]
    return owner, CocoMatches(images, (0.4, 0.5, 0.6, 0.7)).statistics()["map"]


def boxes(generator: np.random.Generator, quality: float) -> ImageBoxes:
    """One image: none to two lesions, found more or less well, and some false positives."""
    truths = generator.integers(0, 3)
    start = generator.uniform(0, 60, (truths, 2))
    truth = np.hstack([start, start + 30])
    shift = generator.normal(0, 6 * np.exp(-quality / 2), (truths, 4))
    extra = generator.uniform(0, 60, (generator.poisson(0.7), 2))
    moved = truth + shift
    first, second = moved[:, :2], moved[:, 2:]
    corners = np.hstack([np.minimum(first, second), np.maximum(first, second)])
    found = np.vstack([corners, np.hstack([extra, extra + 30])])
    confidence = np.concatenate([
        generator.beta(4, 2, truths), generator.beta(2, 4, len(extra)),
    ])  # fmt: skip
    order = np.argsort(-confidence, kind="stable")
    return ImageBoxes(found[order], confidence[order], truth)


METRICS: dict[str, Callable[[np.random.Generator, int], Data]] = {
    "auc.75": partial(auc, 0.75),
    "auc.95": partial(auc, 0.95),
    "ap": average_precision,
    "f1": f1,
    "dice": partial(per_image, dice_values),
    "iou": partial(per_image, iou_values),
    "map": average_map,
    "recall": partial(per_image, lambda z: (z > -0.8).astype(float)),
    "recall@10": partial(per_image, lambda z: (z > 1.28).astype(float)),
}


def true_value(name: str) -> float:
    """The value of a sample of LARGE patients; mAP of a smaller one, whose cost grows faster."""
    generator = np.random.default_rng(1)
    sizes = 4_000 if name == "map" else LARGE
    found = []
    for _ in range(4):
        owner, statistic = METRICS[name](generator, sizes)
        found.append(float(statistic(np.ones((1, owner.size), np.int64))[0]))
    return float(np.mean(found))


def measure(name: str, count: int, data_sets: int, truth: float, resamples: int) -> str:
    """One line of the table."""
    generator = np.random.default_rng(count)
    misses = np.zeros((2, 3))
    values = []
    for _ in range(data_sets):
        owner, statistic = METRICS[name](generator, count)
        value = float(statistic(np.ones((1, owner.size), np.int64))[0])
        if np.isnan(value):
            continue
        values.append(value)
        ours = jackknife_intervals(owner, {"": statistic}, {"": value}, {"": "unit"})[""]
        old = bootstrap(owner, statistic, resamples=resamples)
        for row, (low, high) in enumerate(((ours.low, ours.high), (old.low, old.high))):
            if np.isnan(low):
                misses[row, 2] += 1
            else:
                misses[row, 0] += truth < low
                misses[row, 1] += truth > high
    total = len(values)
    texts = []
    for below, above, none in misses:
        shown = total - none
        texts.append(
            f"{1 - (below + above) / shown:6.1%} ({below / shown:4.1%}, {above / shown:4.1%})"
        )
    bias = np.mean(values) - truth
    return f"{name:10s} {count:4d}  {'  '.join(texts)}  bias {bias:+.4f}, none {int(misses[0, 2])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--metrics", nargs="*", default=list(METRICS), choices=list(METRICS))
    args = parser.parse_args()
    print("metric     patients  g2dbench (above, below)   percentile bootstrap (above, below)")
    for name in args.metrics:
        truth = true_value(name)
        for count in SIZES:
            start = time.perf_counter()
            line = measure(name, count, args.data_sets, truth, args.resamples)
            print(f"{line}, true {truth:.4f}, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
