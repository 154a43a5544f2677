"""Two processes over gloo: losses and gradients, order of the data, and stopping."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support import small_methods as cached
from support import small_training as fits
from support import trainee
from support.processes import term_at, together
from torch import nn
from torch.torch_version import TorchVersion

from g2dbench.errors import Misuse, Stopped
from g2dbench.method import Batch, Method
from g2dbench.pretrained.text.tokenizer import train_wordpiece
from g2dbench.recipes.recipe import OptimSettings, override
from g2dbench.runs.checkpoints import CheckpointPolicy
from g2dbench.runs.folder import RunFolder, load_run, read_info
from g2dbench.training import distributed
from g2dbench.training.optimizer import MethodOptimizer

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
SHARDS = TorchVersion(torch.__version__) >= "2.9"  # FSDP over gloo
JOINT = 6  # pairs of a step, over all processes


def method_of(name: str, strategy: str) -> Method:
    """A method that FSDP can shard, with pseudo masks that do not depend on rounding."""
    tokenizer = train_wordpiece(cached.REPORTS, 60)
    changes: dict[str, Any] = {"contrastive": {"learned": strategy == "ddp"}}
    if name == "g2d":
        changes |= cached.EVERYWHERE
    return cached.build(name, tokenizer, **changes)


def share(batch: Batch, rank: int) -> Batch:
    rows = slice(rank * JOINT // 2, (rank + 1) * JOINT // 2)
    columns = (batch.images, batch.tokens, batch.attention, batch.ids)
    return Batch(*(column[rows] for column in columns), batch.step)  # type: ignore[arg-type]


def one_step(rank: int, port: int, out: Path, cases: list[tuple[str, str, int]]) -> None:
    """One of two processes: gradient and losses of each case; the main process writes them."""
    trainee.enter(rank, 2, port)
    for name, strategy, micro_batch in cases:
        accelerator = distributed.make_accelerator(CPU, "fp32", strategy)  # type: ignore[arg-type]
        method = method_of(name, strategy)
        made = MethodOptimizer(method, OptimSettings(micro_batch=micro_batch), 0, accelerator)
        losses = made.backward(share(cached.batch(method, JOINT), rank))
        mean = {k: accelerator.reduce(v.detach(), "mean") for k, v in losses.items()}
        grads = {k: distributed.full_tensors(p.grad) for k, p in method.named_parameters()}
        if rank == 0:
            torch.save((mean, grads), out / f"{name}-{strategy}-{micro_batch}.pt")


def test_two_processes_have_the_losses_and_the_gradient_of_one(tmp_path: Path) -> None:
    """DDP, FSDP and gradient caching, with gathered negatives and batch norms in eval mode."""
    cases = [
        ("convirt", "ddp", 0), ("g2d", "ddp", 0), ("g2d", "ddp", 2),
        ("convirt", "fsdp", 0), ("g2d", "fsdp", 0), ("g2d", "fsdp", 2),
    ][: 6 if SHARDS else 3]  # fmt: skip
    together(one_step, tmp_path, cases)
    for name, strategy, micro_batch in cases:
        method = method_of(name, strategy)
        if strategy == "ddp":  # another layout rounds otherwise, which a ReLU may make large
            method.to(memory_format=torch.channels_last)
        losses = method.losses(cached.batch(method, JOINT))
        sum(losses.values()).backward()
        wanted = {k: p.grad for k, p in method.named_parameters() if p.grad is not None}
        found, grads = torch.load(tmp_path / f"{name}-{strategy}-{micro_batch}.pt")
        got = {k: float(v) for k, v in found.items()}
        alone = {k: float(v.detach()) for k, v in losses.items()}
        assert got == pytest.approx(alone, abs=1e-5), (name, strategy, micro_batch)
        for key, value in wanted.items():
            label = f"{name} {strategy} {micro_batch} {key}"
            torch.testing.assert_close(
                grads[key], value, rtol=1e-4, atol=1e-5, msg=lambda why, at=label: f"{at}: {why}"
            )


def whole_and_stopped(rank: int, port: int, out: Path, strategy: Any) -> None:
    """An uninterrupted training; one that a signal to the second process stops; its rest."""
    trainee.enter(rank, 2, port)
    settings: dict[str, Any] = {"strategy": strategy, "checkpointing": CheckpointPolicy(steps=3)}
    dataset = fits.some(34)
    recipe = override(fits.recipe(), ["optim.batch_size=4"])
    fits.fit(out / "whole", dataset, recipe=recipe, **settings)
    (out / f"{rank}.pid").write_text(str(os.getpid()))
    ask = term_at(5, out / "1.pid")
    with pytest.raises(Stopped, match="in epoch 2 after batch 2 of 4"):
        fits.fit(out / "part", dataset, recipe=recipe, progress=ask, **settings)
    fits.fit(out / "part", dataset, recipe=recipe, resume=True, **settings)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"] if SHARDS else ["ddp"])
def test_a_signal_to_one_process_stops_all_and_resuming_is_exact(
    tmp_path: Path, strategy: str
) -> None:
    together(whole_and_stopped, tmp_path, strategy)
    whole, part = (read_info(tmp_path / name) for name in ("whole", "part"))
    assert whole.digest == part.digest
    assert whole.processes == part.processes == 2
    assert len(fits.log_of(RunFolder(tmp_path / "part", part))) == 3
    assert load_run(tmp_path / "part", fits.Toys()).identity.digest == whole.digest
    RunFolder(tmp_path / "part", part.model_copy(update={"status": "running"})).write_info()
    recipe = override(fits.recipe(), ["optim.batch_size=4"])
    with pytest.raises(Misuse, match="processes: 2 / 1"):
        fits.fit(tmp_path / "part", fits.some(34), recipe=recipe, resume=True)


def failing(rank: int, port: int, out: Path) -> None:
    """An error in the main process only is raised in both, and neither waits forever."""
    trainee.enter(rank, 2, port)
    accelerator = distributed.make_accelerator(CPU, "fp32")

    def refuse() -> None:
        raise Misuse("the disk said no")

    with pytest.raises(Misuse, match="said no"):
        distributed.on_main_process(accelerator, refuse)
    assert distributed.on_main_process(accelerator, lambda: "told") == "told"
    assert distributed.any_process(accelerator, [rank == 1, False]) == [True, False]


def test_an_error_in_the_main_process_is_raised_in_all(tmp_path: Path) -> None:
    together(failing, tmp_path)


def test_two_processes_see_the_batches_of_one_process() -> None:
    """The order depends on (seed, pairs of a step): 2 processes x 4 pairs equal 1 x 8 pairs."""
    from support.data.pairs import a_loader, some

    whole = [set(rows.tolist()) for rows in a_loader(some(26), batch_size=8).order(1)]
    parts = [a_loader(some(26), batch_size=4, rank=rank, world_size=2).order(1) for rank in (0, 1)]
    both = [set(torch.cat(rows).tolist()) for rows in zip(*parts, strict=True)]
    assert both == whole


def test_fsdp_with_one_process_or_scalar_parameters_is_refused() -> None:
    with pytest.raises(Misuse, match="several processes" if SHARDS else "torch 2.9 or newer"):
        distributed.make_accelerator(CPU, "fp32", "fsdp")
    with pytest.raises(Misuse, match=r"log_scale.*--strategy ddp"):
        distributed.check_shardable(method_of("convirt", "ddp"))
    with pytest.raises(Misuse, match="--strategy 'dp' is unknown: ddp, fsdp"):
        distributed.choose_strategy("dp")


def test_fsdp_over_gloo_that_only_sums_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.0+cu128"))
    with pytest.raises(Misuse, match=r"2\.9 or newer, this is 2\.8\.0.*--strategy ddp"):
        distributed.make_accelerator(CPU, "fp32", "fsdp")


def test_a_single_process_does_not_communicate() -> None:
    accelerator = distributed.make_accelerator(CPU, "fp32")
    assert distributed.any_process(accelerator, [True, False]) == [True, False]
    assert isinstance(
        distributed.full_tensors(nn.Linear(2, 2).state_dict())["weight"], torch.Tensor
    )
