"""Weight initialization from a given generator."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def seeded(build: Callable[[], M], generator: torch.Generator) -> M:
    """Build a module whose initial weights depend on this generator only.

    torch initializes from the global generator, which is seeded here and restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        seed = torch.randint(2**62, (), generator=generator)
        torch.default_generator.manual_seed(int(seed))
        return build()
