"""Scoring with confidence intervals, timed on one core: `python benchmarks/scoring.py`.

The predictions are random, of the size of ChestX-ray14's test list: 25,596 images of 2,797
patients, 14 findings with the positive images of that list (--prevalence replaces them). Every
metric of `zeroshot` is computed for each finding and averaged, with 1,000 patient resamples.
AUC alone is compared with a loop over scikit-learn, extrapolated from --loop resamples, and its
values on these resamples with scikit-learn's.
"""

import argparse
import time
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from g2dbench.metrics.aggregate import PatientStatistic, per_finding, scores
from g2dbench.metrics.bootstrap import RESAMPLES, multiplicities
from g2dbench.metrics.confusion import decision_statistics
from g2dbench.metrics.ranking import RankedScores, ranking_statistics
from g2dbench.metrics.statistic import Statistic

IMAGES, PATIENTS = 25_596, 2_797
POSITIVES = (3279, 1069, 4658, 6112, 1748, 1623, 555, 2665, 1815, 925, 1093, 435, 1143, 86)
DECISION = ("f1", "acc", "mcc")
RANKED = ("auc", "ap", "oracle_f1", "oracle_mcc", "oracle_acc_medklip")


def predictions(prevalence: float | None) -> tuple[NDArray, NDArray, NDArray]:
    """Patients (N,), truth (N,K) and scores (N,K), of an AUC near .76."""
    rng = np.random.default_rng(0)
    shares = np.array(POSITIVES) / IMAGES if prevalence is None else np.full(14, prevalence)
    truth = (rng.random((IMAGES, shares.size)) < shares).astype(np.float64)
    patients = np.array([f"patient {i}" for i in rng.integers(0, PATIENTS, IMAGES)], object)
    return patients, truth, rng.normal(size=truth.shape) + truth


def metrics(
    patients: NDArray, truth: NDArray, score: NDArray, names: tuple[str, ...]
) -> dict[str, PatientStatistic]:
    """The named metrics of each finding and their means, as `zeroshot` gives them."""
    by_name: dict[str, dict[str, Statistic]] = {name: {} for name in names}
    for k in range(truth.shape[1]):
        found = ranking_statistics(truth[:, k], score[:, k])
        found |= decision_statistics(truth[:, k], (score[:, k] > 0.5).astype(float))
        for name in names:
            by_name[name][f"finding {k}"] = found[name]
    known = np.ones(truth.shape, dtype=bool)
    return {
        full_name: metric
        for name, each in by_name.items()
        for full_name, metric in per_finding(name, patients, each, known).items()
    }


def timed_scores(patients: NDArray, truth: NDArray, score: NDArray, *names: str) -> float:
    began = time.perf_counter()
    found = scores(metrics(patients, truth, score, names))
    taken = time.perf_counter() - began
    print(f"{len(found)} scores with intervals, {RESAMPLES} resamples: {taken:.2f} s", flush=True)
    print(f"  {', '.join(f'{name} {found[name].value:.3f}' for name in names)}")
    return taken


def loop(patients: NDArray, truth: NDArray, score: NDArray, resamples: int) -> float:
    """Seconds of scikit-learn's AUC of every finding for 1,000 resamples, from a few of them."""
    weights = np.concatenate(list(islice(multiplicities(patients, resamples=resamples), resamples)))
    ranked = [RankedScores(truth[:, k], score[:, k]) for k in range(truth.shape[1])]
    ours = np.stack([finding.value("auc", weights) for finding in ranked], axis=1)
    began = time.perf_counter()
    for row, values in zip(weights, ours, strict=True):
        again = np.repeat(np.arange(len(row)), row)
        reference = [roc_auc_score(truth[again, k], score[again, k]) for k in range(truth.shape[1])]
        assert np.allclose(reference, values, rtol=0, atol=1e-12, equal_nan=True)
    return (time.perf_counter() - began) / resamples * RESAMPLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", type=int, default=5, help="resamples of the scikit-learn loop")
    parser.add_argument("--prevalence", type=float, help="share of positives of every finding")
    options = parser.parse_args()
    data = predictions(options.prevalence)
    with threadpool_limits(1):
        measure(data, options.loop)


def measure(data: tuple[NDArray, NDArray, NDArray], resamples: int) -> None:
    print(f"{IMAGES:,} images, {PATIENTS:,} patients, {data[1].shape[1]} findings, one core")
    timed_scores(*data, *DECISION, *RANKED)
    alone = timed_scores(*data, "auc")
    reference = loop(*data, resamples)
    print(
        f"a loop over scikit-learn, extrapolated from {resamples} resamples: {reference:.0f} s "
        f"for AUC; ours {alone:.2f} s: {reference / alone:.0f}x; values equal to 1e-12"
    )


if __name__ == "__main__":
    main()
