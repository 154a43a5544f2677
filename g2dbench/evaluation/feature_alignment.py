"""How alike two models' features of the same images are, with intervals over patients.

Measures: metrics/alignment.py. Intervals are of the delete-a-group jackknife: an image that a
bootstrap resample contains twice would be its own nearest neighbor, and raise CKA.

Legend: N images, D width, P patients, G groups of patients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from g2dbench.data.splits.stratified import uniform_hash
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, Unsupported
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_dataset, pooled_features
from g2dbench.metrics.alignment import NEIGHBORS, debiased_cka, mutual_neighbors
from g2dbench.model import Embeds, Features, Model
from g2dbench.result import Score
from g2dbench.task import Run

GROUPS = 20
MIN_IMAGES = 2 * NEIGHBORS

ROUNDING = 1e-3
"""Features that differ by less, relative to the largest, are equal: processors round otherwise."""

SAME_CKA, SAME_NEIGHBORS = 0.999, 0.9
"""From here on, features are one model's but for rotation and scale. Rounding weights to bfloat16
leaves more than this; two pre-training seeds of one recipe stay far below."""

Verdict = Literal["same weights", "same features", "same geometry", "different"]
Statistic = Callable[[NDArray[np.intp]], float]


@dataclass(frozen=True)
class EncodedImages:
    """One model's features (N, D) and what they are: "pooled" or "embedding"."""

    model: Model
    output: str
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """The measures by name, and what they say about the two models."""

    scores: dict[str, Score]
    verdict: Verdict


def encode_images(model: Model, run: Run[Any]) -> EncodedImages:
    """The pooled features of `run.test`, or the embeddings of a model that has no features.

    Unsupported if the model has neither; BadData for too few images.
    """
    if len(run.test) < MIN_IMAGES:
        raise BadData(
            f"{len(run.test)} test images of {run.test.card.name} are too few to compare the "
            f"neighbors of features: at least {MIN_IMAGES} are needed"
        )
    title = f"align {model.identity.label}"
    if isinstance(model, Features):
        return EncodedImages(
            model, "pooled", _doubles(pooled_features(model, run.test, run, title))
        )
    if isinstance(model, Embeds):
        embed = model.embed_images
        frozen = FrozenEncoder(model, lambda x: [embed(x)], model.preprocess, run, "embed_images")
        found = encode_dataset(frozen, run.test, run, title)
        return EncodedImages(model, "embedding", _doubles(found))
    raise Unsupported(
        f"{model.identity.label} has no features to compare: it offers neither features nor embeds"
    )


def align(first: EncodedImages, second: EncodedImages, data: Dataset) -> Alignment:
    """Compare two models' features of the images of a data set, in its order.

    `cka`: linear CKA without bias. `mutual_neighbors`: the share of the 10 nearest neighbors in
    common; `mutual_neighbors_chance` is what unrelated features reach. Both are 1 for features that
    are equal but for rotation and scale. n: images.
    """
    order = np.argsort(data.table["id"].astype(str).to_numpy(object), kind="stable")
    patients = data.table["patient"].astype(str).to_numpy(object)[order]
    one, other = first.features[order], second.features[order]
    cka, neighbors = (
        jackknife(patients, statistic)
        for statistic in (
            lambda rows: debiased_cka(one[rows], other[rows]),
            lambda rows: _mutual_neighbors(one[rows], other[rows]),
        )
    )
    chance = Score(value=NEIGHBORS / (len(order) - 1), n=len(order))
    scores = {"cka": cka, "mutual_neighbors": neighbors, "mutual_neighbors_chance": chance}
    return Alignment(scores, _verdict(first, second, scores))


def jackknife(patients: Sequence[str] | NDArray[np.object_], statistic: Statistic) -> Score:
    """A statistic of row numbers, with its 95 % interval by the delete-a-group jackknife.

    Patients (N,) are divided into at most `GROUPS` groups by a hash of their names, so that the
    order of rows has no influence. The interval is NaN for fewer than 3 groups, or where the
    statistic is undefined without one of them. Source: Kott 2001, The Delete-a-Group Jackknife.
    """
    names = sorted(set(patients), key=lambda name: (uniform_hash("jackknife", name), name))
    count = min(GROUPS, len(names))
    group_of = {name: place % count for place, name in enumerate(names)}
    groups = np.array([group_of[name] for name in patients])
    value = statistic(np.arange(len(groups)))
    if count < 3 or np.isnan(value):
        return Score(value=value, n=len(groups))
    without = np.array([statistic(np.flatnonzero(groups != g)) for g in range(count)])
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.975, count - 1) * error)
    return Score(value=value, low=value - half, high=min(1.0, value + half), n=len(groups))


def _mutual_neighbors(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if len(one) <= NEIGHBORS:
        return float("nan")
    return float(mutual_neighbors(one, other).mean())


def _verdict(first: EncodedImages, second: EncodedImages, scores: dict[str, Score]) -> Verdict:
    one, other = first.features, second.features
    digests = {each.model.identity.digest for each in (first, second)}
    equal = one.shape == other.shape and bool(
        np.abs(one - other).max() <= ROUNDING * np.abs(one).max()
    )
    if equal:
        return "same weights" if len(digests) == 1 and "" not in digests else "same features"
    alike = scores["cka"].value >= SAME_CKA
    alike = alike and scores["mutual_neighbors"].value >= SAME_NEIGHBORS
    return "same geometry" if alike else "different"


def _doubles(features: Tensor) -> NDArray[np.float64]:
    return np.asarray(features.double().numpy())
