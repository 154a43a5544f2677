"""Training on a GPU: near the CPU's, repeatable, resumable, and its weights load on the CPU.

Some backward kernels of CUDA add in an order that differs from run to run, so that trainings are
equal within a tolerance; whether they were equal to the last bit is recorded, not required.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gpu import CPU, GPU, MARKS, exact_fp32, relative_error
from support.small_training import interrupt_at, log_of
from support.training.runs import newest, weights

from g2dbench.data.opening import open_prepared
from g2dbench.errors import Stopped
from g2dbench.evaluation.model_reference import resolve
from g2dbench.recipes import recipe as recipes
from g2dbench.registry import Registry
from g2dbench.runs.folder import RunFolder
from g2dbench.system.machine import Machine
from g2dbench.training.fit import fit

pytestmark = [*MARKS, pytest.mark.integration]

CHANGES = [
    "data.size=64", "optim.batch_size=16", "optim.epochs=2", "optim.lr=1e-4", "model.pixel.start=3"
]  # fmt: skip
LOSSES, REPEATED, WEIGHTS, HALF_LOSSES = 5e-3, 2e-3, 2e-2, 5e-2
"""Largest relative error: losses from GPU to CPU and GPU to GPU, weights, losses of bf16, fp16."""


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with exact_fp32():
        yield


def train(store: Path, out: Path, device: torch.device, **more: Any) -> RunFolder:
    recipe = recipes.override(recipes.load("g2d-tiny"), CHANGES)
    settings = {name: more.pop(name) for name in ("precision", "progress") if name in more}
    machine = Machine(device=device, workers=0, **settings)
    data = open_prepared("synthetic:120", store, Registry(), size=64)
    return fit(recipe, data, out, seed=0, machine=machine, echo=lambda _: None, **more)


def losses(run: RunFolder) -> torch.Tensor:
    """(epochs, 2): both losses of each row of the log."""
    rows = log_of(run)
    return torch.tensor([[float(row[name]) for name in ("vla", "pa")] for row in rows])


def difference(one: RunFolder, other: RunFolder) -> float:
    """Relative error between the floating-point weights of two runs."""
    left, right = weights(one), weights(other)
    names = [name for name, value in left.items() if value.is_floating_point()]
    return relative_error(*(torch.cat([w[n].flatten() for n in names]) for w in (left, right)))


@pytest.fixture(scope="module")
def on_gpu(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished training on the GPU in fp32."""
    with exact_fp32():
        return train(small_store, tmp_path_factory.mktemp("cuda") / "run", GPU)


def test_the_training_follows_that_of_the_cpu(
    on_gpu: RunFolder, small_store: Path, tmp_path: Path
) -> None:
    on_cpu = train(small_store, tmp_path / "cpu", CPU)
    assert on_gpu.info.device == str(GPU)
    assert relative_error(losses(on_gpu), losses(on_cpu)) < LOSSES
    assert difference(on_gpu, on_cpu) < WEIGHTS


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_training_in_half_precision_is_near(
    precision: str, on_gpu: RunFolder, small_store: Path, tmp_path: Path
) -> None:
    if precision == "fp16" and GPU.type == "cpu":
        pytest.skip("fp16 needs a GPU")
    found = train(small_store, tmp_path / precision, GPU, precision=precision)
    assert relative_error(losses(found), losses(on_gpu)) < HALF_LOSSES


def test_the_same_seed_gives_the_same_training(
    on_gpu: RunFolder,
    small_store: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    again = train(small_store, tmp_path / "again", GPU)
    record_property("bit-identical repetition", again.info.digest == on_gpu.info.digest)
    assert relative_error(losses(again), losses(on_gpu)) < REPEATED
    assert difference(again, on_gpu) < WEIGHTS


def test_a_resumed_training_ends_as_an_uninterrupted_one(
    on_gpu: RunFolder,
    small_store: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        train(small_store, out, GPU, progress=interrupt_at(2))
    resumed = train(small_store, out, GPU, resume=True)
    record_property("bit-identical resumption", resumed.info.digest == on_gpu.info.digest)
    assert relative_error(losses(resumed), losses(on_gpu)) < REPEATED
    assert difference(resumed, on_gpu) < WEIGHTS


def test_files_made_on_the_gpu_load_on_the_cpu(on_gpu: RunFolder) -> None:
    """The weights as a model on both devices, and the checkpoint, which is kept on the CPU."""
    registry = Registry()
    model: Any = resolve(str(on_gpu.folder), registry).load(registry, 0).eval()
    size = model.preprocess.size
    images = torch.rand(4, 1, size, size, generator=torch.Generator().manual_seed(0))
    images = images.expand(-1, model.preprocess.channels, -1, -1)
    with torch.no_grad():
        right = model.embed_images(images)
        assert relative_error(model.to(GPU).embed_images(images.to(GPU)), right) < 1e-4
    kept = torch.load(newest(on_gpu.folder), weights_only=True, map_location="cpu")
    for name, value in weights(on_gpu).items():
        assert torch.equal(kept["method"][name].cpu(), value)
