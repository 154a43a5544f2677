"""The input of 64 processes: each pair once per epoch, equal shares, also with other numbers."""

import numpy as np
import pytest
import torch
from support.data.pairs import a_loader, some

from g2dbench.data.shards.order import make_order

BATCH = 8


def rows_of(counts: list[int], rank: int, world_size: int, epoch: int) -> np.ndarray:
    """Numbers of a process's pairs, in the order of training."""
    starts = np.cumsum([0, *counts])
    order = make_order(counts, 3, epoch, rank=rank, world_size=world_size, buffer=50)
    return (starts[order.shards] + order.pairs)[order.training_order]


@pytest.mark.parametrize("seed", range(4))
def test_64_processes_use_each_pair_once_in_equal_shares(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(1, 400, 150).tolist()
    steps = sum(counts) // 64 // BATCH
    parts = [rows_of(counts, rank, 64, epoch=1) for rank in range(64)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(sum(counts)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= steps * BATCH > min(sizes) - BATCH - 1  # every process has all its steps
    # What is dropped at the end of one epoch is not what is dropped in the next one.
    dropped = [
        {
            int(row)
            for rank in range(64)
            for row in rows_of(counts, rank, 64, epoch)[steps * BATCH :]
        }
        for epoch in (1, 2)
    ]
    assert len(dropped[0]) == len(dropped[1]) == sum(counts) - 64 * steps * BATCH
    assert dropped[0] != dropped[1]


@pytest.mark.parametrize("processes", [1, 16, 48, 63])
def test_the_next_epoch_with_another_number_of_processes_has_each_pair_once(processes: int) -> None:
    counts = np.random.default_rng(9).integers(1, 60, 100).tolist()
    found = np.concatenate([rows_of(counts, rank, processes, 2) for rank in range(processes)])
    assert sorted(found.tolist()) == list(range(sum(counts)))


@pytest.mark.parametrize("world_size", [1, 2, 8, 32])
def test_a_prepared_store_goes_on_with_other_processes_and_the_same_joint_batch(
    world_size: int,
) -> None:
    """64 processes x 1 pair for some steps, then fewer processes with larger batches."""

    def joint(world: int) -> torch.Tensor:
        """The rows of each step over all processes, (steps, 64)."""
        loaders = [
            a_loader(some(200), batch_size=64 // world, rank=rank, world_size=world)
            for rank in range(world)
        ]
        return torch.cat([loader.order(1) for loader in loaders], dim=1)

    whole, other = joint(64), joint(world_size)
    assert torch.equal(whole, other)
    rows = torch.cat([whole[:1], other[1:]]).flatten()
    assert len(rows.unique()) == len(rows) == 192
