"""The GPU of the tests marked `gpu`, and fp32 on it without TensorFloat-32.

G2DBENCH_GPU_TESTS_ON=cpu runs these tests with the CPU in place of the GPU, to try them out.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

NAME = os.environ.get("G2DBENCH_GPU_TESTS_ON", "cuda")
MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        NAME == "cuda" and not torch.cuda.is_available(),
        reason="needs a CUDA device, which this machine or this torch does not have",
    ),
]
CPU, GPU = torch.device("cpu"), torch.device(NAME)
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Convolutions and matrix products in true fp32 within the block."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def relative_error(found: Tensor, right: Tensor) -> float:
    """The norm of the difference over the norm of the right values, in fp64 on the CPU."""
    one, other = (value.detach().double().cpu() for value in (found, right))
    assert one.shape == other.shape
    assert torch.isfinite(one).all()
    return float((one - other).norm() / other.norm().clamp(min=1e-12))
