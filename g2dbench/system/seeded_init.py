"""Fresh layers that depend on a given generator alone."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def drawn(build: Callable[[], M], generator: torch.Generator) -> M:
    """A module whose initial weights come from this generator alone.

    Initialisers of torch draw from the global generator: it is lent the seed and put back.
    """
    with torch.random.fork_rng(devices=[]):
        seed = torch.randint(2**62, (), generator=generator)
        torch.default_generator.manual_seed(int(seed))
        return build()
