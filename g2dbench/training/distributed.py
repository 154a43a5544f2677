"""accelerate's part of training: precision, devices, and several processes under `torchrun`.

Checkpoints and weights are whole on disk however many processes trained: FSDP's shards are joined
before they are written and cut again when they are read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from g2dbench.pretrained.tokenizer import save_tokenizer
from g2dbench.runs import location
from g2dbench.runs.folder import RunFolder, RunInfo

Strategy = Literal["ddp", "fsdp"]
T = TypeVar("T")
Cast = Callable[[], AbstractContextManager[object]]


def choose_strategy(name: str) -> Strategy:
    """A strategy by name; Misuse for an unknown one."""
    if name not in get_args(Strategy):
        raise Misuse(f"--strategy {name!r} is unknown: {', '.join(get_args(Strategy))}")
    return cast(Strategy, name)


def is_first_process() -> bool:
    """Whether this is the process that speaks for all."""
    return bool(PartialState().is_main_process)


def accelerator_for(
    device: torch.device, precision: str, strategy: Strategy = "ddp"
) -> Accelerator:
    """accelerate's view of this process; its global state of an earlier training is dropped."""
    if strategy == "fsdp":
        _check_gloo(device)
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    # The decoder of G2D gets no gradient before `pixel.start`, which DDP must be told.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    shards = _shards() if strategy == "fsdp" else None
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        device_placement=False,
        kwargs_handlers=[unused],
        fsdp_plugin=shards,
    )
    if shards is not None:
        if accelerator.num_processes == 1:
            raise Misuse(
                "--strategy fsdp shards the training over several processes: start it with "
                "`torchrun --nproc_per_node=N -m g2dbench pretrain ...`"
            )
        # accelerate offers FSDP for accelerators alone; on the CPU its own code runs as well. Both
        # of its states are told, for one is copied over the other time and again.
        PartialState().distributed_type = DistributedType.FSDP
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = shards
    return accelerator


def _check_gloo(device: torch.device) -> None:
    """Misuse where gloo, the CPU's way between processes, sums the gradients it is to average."""
    if device.type == "cpu" and TorchVersion(torch.__version__) < "2.9":
        raise Misuse(
            f"--strategy fsdp on the CPU needs torch 2.9 or newer, this is {torch.__version__}, "
            "which does not average the gradients of the processes: use --strategy ddp"
        )


def _shards() -> FullyShardedDataParallelPlugin:
    """FSDP2 in one group: weights between steps, gradients and optimiser state are sharded.

    Precision stays autocast's, as without FSDP, so that weights and norms are fp32 everywhere.
    """
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="NO_WRAP",
        mixed_precision_policy=MixedPrecisionPolicy(),
    )


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether FSDP is at work."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def check_shardable(method: Method) -> None:
    """Misuse where FSDP cannot shard the method."""
    scalars = [name for name, weight in method.named_parameters() if weight.ndim == 0]
    if scalars:
        raise Misuse(
            f"--strategy fsdp cannot shard {', '.join(scalars)}, a single number that learns: use "
            "--strategy ddp, or a fixed temperature (--set model.contrastive.learned=false)"
        )


class Steps(nn.Module):
    """A method whose forward pass is whatever is asked of it, under the precision of training.

    Wrappers of devices and precision see one module and one forward pass.
    """

    def __init__(self, method: Method, cast: Cast) -> None:
        super().__init__()
        self.method = method
        self._cast = cast

    def forward(self, ask: Callable[[Method], T]) -> T:
        """What `ask` makes of the method: losses, representations."""
        with self._cast():
            return ask(self.method)


@contextmanager
def whole(steps: Any, accelerator: Accelerator) -> Iterator[None]:
    """FSDP's weights put together on every process; all must ask for it."""
    if is_sharded(accelerator):
        steps.unshard()
    yield
    if is_sharded(accelerator):
        steps.reshard()


def on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Do something in the main process while the others wait; all get its result or its error."""
    said: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            said[0] = action()
        except G2DBenchError as error:
            said[1] = error
    broadcast_object_list(said)
    if said[1] is not None:
        raise said[1]
    result: T = said[0]
    return result


def agreed(accelerator: Accelerator, wishes: Sequence[bool]) -> list[bool]:
    """Each wish, if any process has it: every process gets the same answer at the same step."""
    if accelerator.num_processes == 1:
        return list(wishes)
    counted = torch.tensor(wishes, dtype=torch.int32, device=accelerator.device)
    return [bool(count) for count in accelerator.reduce(counted, "sum").tolist()]


def joined(state: Any) -> Any:
    """A state_dict with FSDP's shards put together, on the CPU; all processes must ask for it."""
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, Mapping):
        return {key: joined(value) for key, value in state.items()}
    return [joined(value) for value in state] if isinstance(state, list) else state


def cut_like(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A whole state_dict, cut as the module's own is."""
    own = module.state_dict()
    return {name: _cut(value, own.get(name)) for name, value in weights.items()}


def cut_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole optimiser's state_dict, cut as its parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parts = {
        index: {name: _cut(value, parameters[index]) for name, value in kept.items()}
        for index, kept in state["state"].items()
    }
    return {**state, "state": parts}


def _cut(value: Any, like: Tensor | None) -> Any:
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def start(info: RunInfo, out: Path | None, method: Method, accelerator: Accelerator) -> RunFolder:
    """A new run folder with everything in it that is known before the first step.

    The main process makes it and tells the others where it is.
    """

    def make() -> Path:
        run = RunFolder(location.fresh_folder(out, info.label, info.seed), info)
        save_tokenizer(method.tokenize.tokenizer, run.folder)
        run.write_info()
        return run.folder

    return RunFolder(on_main(accelerator, make), info)
