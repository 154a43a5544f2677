"""Devices, precision and several processes (`torchrun`), through accelerate.

Checkpoints and weights on disk do not depend on the number of processes: FSDP shards are gathered
before they are written and split again when they are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    broadcast_object_list,
)
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.torch_version import TorchVersion

from g2dbench.errors import G2DBenchError, Misuse
from g2dbench.method import Method
from g2dbench.pretrained.text.tokenizer import save_tokenizer
from g2dbench.runs import location
from g2dbench.runs.folder import RunFolder, RunInfo, read_info

Strategy = Literal["ddp", "fsdp"]
T = TypeVar("T")
Autocast = Callable[[], AbstractContextManager[object]]


def choose_strategy(name: str) -> Strategy:
    """The strategy with this name; raises Misuse if it is unknown."""
    if name not in get_args(Strategy):
        raise Misuse(f"--strategy {name!r} is unknown: {', '.join(get_args(Strategy))}")
    return cast(Strategy, name)


def is_main_process() -> bool:
    """Whether this is the process that prints and writes files."""
    return bool(PartialState().is_main_process)


def make_accelerator(
    device: torch.device, precision: str, strategy: Strategy = "ddp"
) -> Accelerator:
    """An Accelerator for this process, without the global state of an earlier training."""
    if strategy == "fsdp":
        _check_gloo(device)
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    # G2D's decoder gets no gradient before `pixel.start`; by default DDP would wait for it.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    fsdp_plugin = _fsdp_plugin() if strategy == "fsdp" else None
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        device_placement=False,
        kwargs_handlers=[unused],
        fsdp_plugin=fsdp_plugin,
    )
    if fsdp_plugin is not None:
        if accelerator.num_processes == 1:
            raise Misuse(
                "--strategy fsdp shards the training over several processes: start it with "
                "`torchrun --nproc_per_node=N -m g2dbench pretrain ...`"
            )
        # accelerate enables FSDP on GPUs only, although its code also runs on the CPU. Both states
        # are set, because accelerate repeatedly copies one over the other.
        PartialState().distributed_type = DistributedType.FSDP
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = fsdp_plugin
    return accelerator


def _check_gloo(device: torch.device) -> None:
    """Misuse where gloo, the CPU's way between processes, sums the gradients it is to average."""
    if device.type == "cpu" and TorchVersion(torch.__version__) < "2.9":
        raise Misuse(
            f"--strategy fsdp on the CPU needs torch 2.9 or newer, this is {torch.__version__}, "
            "which does not average the gradients of the processes: use --strategy ddp"
        )


def _fsdp_plugin() -> FullyShardedDataParallelPlugin:
    """FSDP2 with one group: weights between steps, gradients and optimizer state are sharded.

    Autocast sets the precision, as without FSDP, so that weights and norms are always fp32.
    """
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="NO_WRAP",
        mixed_precision_policy=MixedPrecisionPolicy(),
    )


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether FSDP is in use."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def check_shardable(method: Method) -> None:
    """Raise Misuse if FSDP cannot shard the method."""
    scalars = [name for name, weight in method.named_parameters() if weight.ndim == 0]
    if scalars:
        raise Misuse(
            f"--strategy fsdp cannot shard the scalar parameter {', '.join(scalars)}: use "
            "--strategy ddp, or a fixed temperature (--set model.contrastive.learned=false)"
        )


class MethodWrapper(nn.Module):
    """A module whose forward pass applies a given function to the method, under autocast.

    DDP and FSDP wrap a module with one forward pass; a method has several entry points.
    """

    def __init__(self, method: Method, cast: Autocast) -> None:
        super().__init__()
        self.method = method
        self._autocast = cast

    def forward(self, function: Callable[[Method], T]) -> T:
        """`function(method)`, such as losses or representations."""
        with self._autocast():
            return function(self.method)


@contextmanager
def unsharded(steps: Any, accelerator: Accelerator) -> Iterator[None]:
    """Gather the FSDP shards of the weights on every process; all processes must call it."""
    if is_sharded(accelerator):
        steps.unshard()
    yield
    if is_sharded(accelerator):
        steps.reshard()


def on_main_process(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Run an action in the main process while the others wait; all get its result or error."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = action()
        except G2DBenchError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def any_process(accelerator: Accelerator, flags: Sequence[bool]) -> list[bool]:
    """For each flag, whether it is set in any process; all processes get the same answer."""
    if accelerator.num_processes == 1:
        return list(flags)
    counted = torch.tensor(flags, dtype=torch.int32, device=accelerator.device)
    return [bool(count) for count in accelerator.reduce(counted, "sum").tolist()]


def full_tensors(state: Any) -> Any:
    """A state_dict with its FSDP shards gathered, on the CPU; all processes must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, Mapping):
        return {key: full_tensors(value) for key, value in state.items()}
    return [full_tensors(value) for value in state] if isinstance(state, list) else state


def shard_like(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A full state_dict, sharded like the module's own."""
    own = module.state_dict()
    return {name: _shard(value, own.get(name)) for name, value in weights.items()}


def shard_optimizer_state(
    state: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """A full optimizer state_dict, sharded like the optimizer's parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parts = {
        index: {name: _shard(value, parameters[index]) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": parts}


def _shard(value: Any, like: Tensor | None) -> Any:
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def lock_run(run: RunFolder, accelerator: Accelerator, held: ExitStack) -> RunFolder:
    """The run to resume, as it is once it is locked; Busy if another training writes it."""
    on_main_process(
        accelerator, lambda: held.enter_context(location.reserved(run.folder, new=False))
    )
    return RunFolder(run.folder, read_info(run.folder))


def start_run(
    info: RunInfo, out: Path | None, method: Method, accelerator: Accelerator, held: ExitStack
) -> RunFolder:
    """A new run folder with its tokenizer and `run.json`, locked until `held` is left.

    The main process makes it and sends its path to the others.
    """

    def make() -> Path:
        folder = location.new_folder(out, info.label, info.seed)
        held.enter_context(location.reserved(folder, new=True))
        run = RunFolder(folder, info)
        save_tokenizer(method.tokenize.tokenizer, run.folder)
        run.write_info()
        return run.folder

    return RunFolder(on_main_process(accelerator, make), info)
