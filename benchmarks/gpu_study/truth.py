"""The ground truth of pre-training images, augmented like them.

Shapes: N training pairs, B pairs of a batch, K findings, S image side.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from g2dbench.dataset import Dataset
from g2dbench.method import Batch
from g2dbench.system.locks import locked
from g2dbench.training.batches.augmentation import light_motion
from g2dbench.training.batches.pair_loader import Pairs, augmentation_numbers


class Truth:
    """The masks and labels of the training pairs of one run, whose augmentation is `light`.

    The augmentation of an image is a function of seed, epoch and row, so that its masks can be
    moved as the loader moved the image.
    """

    def __init__(
        self,
        pairs: Pairs,
        bits: NDArray[np.uint8],
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """bits: the `mask_bits` of the pairs."""
        self.findings = pairs.dataset.card.findings
        self._bits = torch.from_numpy(bits).to(device)
        self._row = {name: row for row, name in enumerate(pairs.ids)}
        self._steps = len(pairs) // batch_size
        self._seed, self._epoch = seed, -1
        self._uniform: NDArray[np.float64] = np.empty((0, 0))

    def labels(self, batch: Batch) -> Tensor:
        """(B, K) bool: the findings of each image."""
        return self._planes(self._rows(batch)).flatten(2).any(-1)

    def masks(self, batch: Batch) -> Tensor:
        """(B, K, S, S) fp32, 0 or 1: the mask of each finding in the augmented image."""
        rows = self._rows(batch)
        planes = self._planes(rows).float()
        motions = np.stack([light_motion(u)[:2] for u in self._numbers(batch.step)[rows]])
        theta = torch.from_numpy(motions).to(planes)
        with torch.autocast(planes.device.type, enabled=False):
            grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
            moved = F.grid_sample(planes, grid, mode="bilinear", align_corners=False)
        return (moved > 0.5).float()

    def _rows(self, batch: Batch) -> list[int]:
        return [self._row[name] for name in batch.ids]

    def _planes(self, rows: list[int]) -> Tensor:
        """(B, K, S, S) bool."""
        bits = self._bits[torch.tensor(rows, device=self._bits.device)][:, None]
        each = 1 << torch.arange(len(self.findings), device=bits.device).view(1, -1, 1, 1)
        return (bits.int() & each) > 0

    def _numbers(self, step: int) -> NDArray[np.float64]:
        """The numbers of the epoch of this step, (N, `RANDOM_NUMBERS`)."""
        epoch = step // self._steps
        if epoch != self._epoch:
            self._epoch = epoch
            self._uniform = augmentation_numbers(self._seed, epoch, len(self._row))
        return self._uniform


def mask_bits(data: Dataset) -> NDArray[np.uint8]:
    """(N, S, S): bit k of a pixel says whether finding k of the card covers it."""
    found = np.zeros((len(data), data.size, data.size), np.uint8)
    for row, sample in enumerate(data):
        for name, mask in (sample.masks or {}).items():
            found[row] |= mask.astype(np.uint8) << data.card.findings.index(name)
    return found


def stored_mask_bits(data: Dataset, file: Path) -> NDArray[np.uint8]:
    """`mask_bits`, computed by the first process that asks and then read from `file`."""
    with locked(file):
        if not file.is_file():
            partial = file.with_suffix(".partial.npy")
            np.save(partial, mask_bits(data))
            partial.rename(file)
    return np.asarray(np.load(file))
