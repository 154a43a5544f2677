"""The precision that a machine promises."""

from collections.abc import Iterator

import pytest
import torch

from g2dbench.system.machine import Machine


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    yield
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_is_without_tensor_float_32(precision: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    Machine(device=torch.device("cpu"), precision=precision)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
