"""What the tests of tasks share: a data set in memory, and one thread."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from g2dbench.cards import DatasetCard
from g2dbench.data.store.memory import MemoryDataset
from g2dbench.evaluation.fit_head import single_cpu_thread
from g2dbench.sample import Sample
from g2dbench.system.machine import Machine
from g2dbench.task import Run


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    """For every test of a file that says `single_thread = toy.single_thread`."""
    with single_cpu_thread():
        yield


def card(name: str, offers: str, *findings: str) -> DatasetCard:
    return DatasetCard(
        name=name, summary="", offers=(offers,), findings=findings, url="", licence=""
    )


class Memory(MemoryDataset):
    """A data set in memory; a test's own subclass says its card and the size of its images."""

    card: DatasetCard
    size: int

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__(samples, type(self).card, type(self).size, "toy")


def run_with(**given: Any) -> Run[Any]:
    """A `Run`; what is the machine's (device, batch size, ...) is given beside the rest."""
    names = ("device", "precision", "batch_size", "progress", "features")
    machine = {name: given.pop(name) for name in names if name in given}
    return Run(machine=Machine(**{"device": torch.device("cpu")} | machine), **given)
