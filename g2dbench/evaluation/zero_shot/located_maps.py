"""A model's map of a finding, or of a phrase, beside the annotated region; as rows of predictions.

Legend: N images, T texts, H W pixels of an image, h w a model's grid.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from g2dbench.data.annotations import rle
from g2dbench.dataset import Dataset
from g2dbench.errors import BadData, BadResult
from g2dbench.evaluation.frozen_features import FrozenEncoder, encode_in_chunks
from g2dbench.evaluation.prediction_table import KEYS
from g2dbench.evaluation.prompts import phrase
from g2dbench.metrics.grounding import box_mask
from g2dbench.model import Locates, Model
from g2dbench.preprocess import InputGeometry, Resampling
from g2dbench.sample import Sample
from g2dbench.task import Run

GEOMETRY = ("height", "width", "size", "scale_x", "scale_y", "offset_x", "offset_y")
"""The fields of `InputGeometry`, stored so that scoring needs no model."""

COLUMNS = (*KEYS, "grid_h", "grid_w", "grid", *GEOMETRY, "resampling", "threshold", "truth")

PHRASES = "phrases"
"""The group of all phrases, which are scored together: each occurs once or a few times."""


@dataclass(frozen=True)
class Question:
    """How a finding or a phrase is asked for; `{}` stands for its name.

    negative: the map of this text is subtracted from the prompt's; "" subtracts nothing.
    """

    template: str = "{}"
    negative: str = ""

    def locate(self, locator: Locates, images: Tensor, names: Sequence[str]) -> Tensor:
        """(B, C, S, S), T names -> (B, T, h, w)."""
        asked = [self.template.replace("{}", name) for name in names]
        if not self.negative:
            return locator.locate(images, asked)
        denied = [self.negative.replace("{}", name) for name in names]
        if len(set(denied)) == 1:  # one text for all findings needs one map
            denied = denied[:1]
        maps = locator.locate(images, [*asked, *denied])
        return maps[:, : len(asked)] - maps[:, len(asked) :]


PLAIN = Question()
"""The name alone."""


class Pair(NamedTuple):
    """A finding that is present in an image: its ground truth and the model's map.

    group: the finding, or `PHRASES`. truth: run lengths of (H, W). grid: the map, (h, w) over the
    input; `geometry` maps it to image pixels.
    """

    id: str
    patient: str
    finding: str
    group: str
    truth: str
    grid: NDArray[np.float32]
    geometry: InputGeometry
    resampling: Resampling

    def maps(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W) relevance map, NaN outside the crop, and (H, W) ground truth.

        BadResult for run lengths that do not fit the image.
        """
        # The ground truth first: decoding refuses a size that does not fit into memory.
        truth = rle.decode(self.truth, (self.geometry.height, self.geometry.width))
        return self.geometry.map_to_image(self.grid, self.resampling), truth

    def row(self, threshold: float) -> dict[str, object]:
        """The stored row."""
        grid_h, grid_w = self.grid.shape
        return {
            "id": self.id,
            "patient": self.patient,
            "finding": self.finding,
            "group": self.group,
            "grid_h": grid_h,
            "grid_w": grid_w,
            "grid": self.grid.ravel(),
            **asdict(self.geometry),
            "resampling": self.resampling,
            "threshold": threshold,
            "truth": self.truth,
        }


def read_row(row: dict[Hashable, Any]) -> Pair:
    """The pair of a stored row; BadResult that names the image if the row is broken."""
    try:
        grid = np.array(row["grid"], np.float32).reshape(int(row["grid_h"]), int(row["grid_w"]))
        numbers = [row["threshold"], *(row[name] for name in GEOMETRY)]
        broken = grid.size == 0 or not (np.isfinite(grid).all() and np.isfinite(numbers).all())
    except (ValueError, TypeError, OverflowError):
        broken = True
    if broken or row["resampling"] not in get_args(Resampling):
        raise BadResult(
            f"the map of {row['finding']!r} on image {row['id']!r} cannot be scored: its grid, "
            "geometry, threshold or resampling is broken"
        )
    geometry = InputGeometry(**{name: row[name] for name in GEOMETRY})
    names = (row["id"], row["patient"], row["finding"], row.get("group", row["finding"]))
    return Pair(*names, row["truth"], grid, geometry, row["resampling"])


def locate_findings(
    model: Model,
    locator: Locates,
    data: Dataset,
    run: Run[Any],
    title: str,
    question: Question = PLAIN,
    wanted: Sequence[str] | None = None,
) -> Iterator[Pair]:
    """Yield each image's present findings with maps, in order; BadData if a map is not finite.

    Phrases (`DatasetCard.phrases`) are asked in their own words, without the question's template.
    wanted: the findings to ask for; None for all, and all phrases.
    """
    if data.card.phrases:
        own_words = replace(question, template="{}")
        images = images_with_findings(data)
        located = _phrases(model, locator, images, run, title, own_words)
    else:
        images = images_with_findings(data, wanted)
        located = _findings(model, locator, images, run, title, question, wanted)
    for sample, grids in located:
        for finding, grid in grids.items():
            if not torch.isfinite(grid).all():
                raise BadData(
                    f"the map of image {sample.id} of {data.card.name} is not finite: "
                    "check the weights, or use --precision fp32"
                )
            yield Pair(
                sample.id,
                sample.patient,
                finding,
                PHRASES if data.card.phrases else finding,
                rle.encode(true_regions(sample)[finding]),
                grid.float().cpu().numpy(),
                model.preprocess.geometry(*sample.image.shape),
                locator.grounding.resampling,
            )


Located = Iterator[tuple[Sample, Mapping[str, Tensor]]]


def _findings(
    model: Model,
    locator: Locates,
    images: Dataset,
    run: Run[Any],
    title: str,
    question: Question,
    wanted: Sequence[str] | None,
) -> Located:
    """Ask every image for every wanted finding of the data set: one list of texts for all."""
    findings = sorted({finding for sample in images for finding in true_regions(sample, wanted)})
    names = [phrase(finding) for finding in findings]
    frozen = FrozenEncoder(
        model,
        lambda x: [question.locate(locator, x, names)],
        model.preprocess,
        run,
        f"locate {names} {question}",
    )
    for samples, (maps,) in encode_in_chunks(frozen, images, run, title):
        for sample, by_finding in zip(samples, maps, strict=True):
            present = sorted(true_regions(sample, wanted))
            yield sample, {name: by_finding[findings.index(name)] for name in present}


def _phrases(
    model: Model, locator: Locates, images: Dataset, run: Run[Any], title: str, question: Question
) -> Located:
    """Ask every image for its own phrases, one image and one phrase at a time.

    So no map depends on the other phrases. All phrases for all images would be too many.
    """
    asked: list[str] = []
    frozen = FrozenEncoder(
        model,
        lambda x: [torch.cat([question.locate(locator, x, [text]) for text in asked], dim=1)],
        model.preprocess,
        run,
    )
    frozen.chunk = 1
    for row in run.progress(range(len(images)), title, len(images)):
        sample = images[row]
        asked[:] = sorted(true_regions(sample))
        (maps,) = frozen([sample.image])
        yield sample, dict(zip(asked, maps[0], strict=True))


def images_with_findings(data: Dataset, wanted: Sequence[str] | None = None) -> Dataset:
    """The images with a box or a mask of a wanted finding that is not empty; None: of any."""
    annotated = (data.table["has_boxes"] | data.table["has_masks"]).to_numpy(bool)
    rows = [int(row) for row in np.flatnonzero(annotated) if true_regions(data[int(row)], wanted)]
    return data.take(rows)


def true_regions(
    sample: Sample, wanted: Sequence[str] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """finding -> (H, W) mask, or union of its boxes if it has no mask; without empty ones.

    wanted: None for all findings.
    """
    masks = dict(sample.masks or {})
    boxes = [box for box in sample.boxes or () if box.finding not in masks]
    for finding in {box.finding for box in boxes}:
        corners = [(box.x0, box.y0, box.x1, box.y1) for box in boxes if box.finding == finding]
        masks[finding] = box_mask(corners, sample.image.shape)
    asked = masks if wanted is None else set(wanted)
    return {finding: mask for finding, mask in masks.items() if finding in asked and mask.any()}


def candidate_thresholds(pairs: Sequence[Pair], count: int) -> NDArray[np.float64]:
    """(S,) increasing thresholds at evenly spaced quantiles of all maps' values; S <= count."""
    values = np.concatenate([pair.grid.ravel() for pair in pairs]).astype(np.float64)
    return np.unique(np.quantile(values, np.arange(1, count + 1) / (count + 1)))
