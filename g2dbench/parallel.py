"""accelerate's part of training: precision, devices, and several processes under `torchrun`."""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn

from g2dbench import runs
from g2dbench.method import Batch, Method
from g2dbench.runs import RunFolder, RunInfo
from g2dbench.text import save_tokenizer


def accelerator_for(device: torch.device, precision: str) -> Accelerator:
    """accelerate's view of this process; its global state of an earlier training is dropped."""
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    # The decoder of G2D gets no gradient before `pixel.start`, which DDP must be told.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        device_placement=False,
        kwargs_handlers=[unused],
    )


class Losses(nn.Module):
    """A method whose forward pass is its losses, as wrappers of precision and devices expect."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses."""
        return self.method.losses(batch)


def start(info: RunInfo, out: Path | None, method: Method, accelerator: Accelerator) -> RunFolder:
    """A new run folder with everything in it that is known before the first step.

    The main process makes it and tells the others where it is.
    """
    place: list[Path | None] = [None]
    if accelerator.is_main_process:
        place = [runs.fresh_folder(out, info.label, info.seed)]
    broadcast_object_list(place)
    assert place[0] is not None
    run = RunFolder(place[0], info)
    if accelerator.is_main_process:
        save_tokenizer(method.tokenize.tokenizer, run.folder)
        run.write_info()
    return run
