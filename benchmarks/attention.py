"""Are pseudo masks where the findings are? `python benchmarks/attention.py RUN ...`.

For test radiographs with a finding: the precision, which is the fraction of a pseudo mask's pixels
on a finding; the fraction of the image with findings (the precision of a random mask); the
precision on another patient's findings (that of one fixed mask); and the mean IoU of the masks of
two images (.08 for independent masks of 15 %). Sources of the masks:

    query       the attention of the aggregating query, as in G2D's paper
    report      cosine of each pixel with the image's own report
    activation  norm of the feature vector that is attended to, without any text
    random      noise on the same grid
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.data.prepare import open_or_prepare
from g2dbench.dataset import Dataset
from g2dbench.method import Batch
from g2dbench.methods.g2d import monitors
from g2dbench.methods.g2d.model import G2D
from g2dbench.progress import quiet
from g2dbench.registry import Registry
from g2dbench.runs.folder import load_run
from g2dbench.training.batches.collate import LoaderSettings
from g2dbench.training.batches.pair_loader import PairLoader, Pairs, find_pairs

IMAGES = 300
STORE = Path("~/.cache/g2dbench").expanduser()
Sources = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of the method g2d")
    parser.add_argument("--store", type=Path, default=STORE)
    args = parser.parse_args()
    data = open_or_prepare("synthetic", None, args.store, progress=quiet, registry=Registry())
    part = data.split("test")
    for folder in args.runs:
        g2d = load_run(folder).towers
        assert isinstance(g2d, G2D), f"{folder} is no run of g2d"
        pairs = find_pairs(part.take(range(IMAGES)), "frontal")
        print(folder)
        for name, values in measure(g2d, pairs).items():
            own, other, share, overlap = values
            print(
                f"  {name:<11} precision {own:.3f}, on another's findings {other:.3f}, "
                f"of a random mask {share:.3f}; IoU of two masks {overlap:.2f}"
            )


@torch.no_grad()
def measure(g2d: G2D, pairs: Pairs) -> dict[str, tuple[float, float, float, float]]:
    """Source -> precision, precision on another's findings, fraction with findings, mean IoU."""
    settings = LoaderSettings(
        preprocess=g2d.preprocess, tokenize=g2d.tokenize,
        batch_size=50, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    masks: dict[str, list[Tensor]] = {}
    for batch in PairLoader(pairs, settings).unaugmented():
        for name, scores in sources(g2d, batch).items():
            mask = g2d.pseudo_mask(scores, batch.images)[:, :1] > 0.5
            masks.setdefault(name, []).append(mask[:, 0])
    truth = torch.cat(list(findings(pairs.dataset, g2d.preprocess.size)))
    has_finding = truth.flatten(1).any(1)
    return {
        name: precisions(torch.cat(parts)[has_finding], truth[has_finding])
        for name, parts in masks.items()
    }


def precisions(masks: Tensor, truth: Tensor) -> tuple[float, float, float, float]:
    """(N, S, S) bool each -> the four values of `measure`."""
    size = masks.flatten(1).sum(1).clamp(min=1)
    own = (masks & truth).flatten(1).sum(1) / size
    other = (masks & truth.roll(1, 0)).flatten(1).sum(1) / size
    return (
        float(own.mean()),
        float(other.mean()),
        float(truth.float().mean()),
        monitors.overlap(masks[:, None].float()),
    )


def sources(g2d: G2D, batch: Batch) -> Sources:
    """Source -> map (B, H, h, w), from which a pseudo mask is computed."""
    pyramid = g2d.pyramid(batch.images)
    attention = g2d.attend(pyramid)
    report = F.normalize(g2d.text(batch.tokens, batch.attention), dim=-1)
    pixels = F.normalize(g2d.dense(pyramid), dim=1)
    level = pyramid[g2d.strides.index(g2d.preprocess.size // attention.shape[-1])]
    noise = torch.Generator().manual_seed(0)
    return {
        "query": attention,
        # above 0, since pixels outside the body become 0
        "report": 1 + torch.einsum("bdhw,bd->bhw", pixels, report)[:, None],
        "activation": level.norm(dim=1, keepdim=True),
        "random": torch.rand(attention[:, :1].shape, generator=noise),
    }


def findings(data: Dataset, side: int) -> Iterator[Tensor]:
    """(1, side, side) bool for each image: the union of its masks."""
    for sample in data:
        union = np.zeros(sample.image.shape, bool)
        for mask in (sample.masks or {}).values():
            union |= mask
        covered = F.interpolate(
            torch.from_numpy(union)[None, None].float(), (side, side), mode="area"
        )
        yield covered[0] > 0.5


if __name__ == "__main__":
    main()
