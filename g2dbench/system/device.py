"""The choice of device and precision: the meaning of `auto`, and what the machine supports."""

import torch
from torch import Tensor

from g2dbench.errors import Misuse

AUTO = "auto"
PRECISIONS = ("fp32", "bf16", "fp16")


def choose_device(name: str) -> torch.device:
    """`auto` is the first CUDA device, else Apple's, else the CPU."""
    device = parse_device(name)
    if device is not None:
        _check_present(device)
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def parse_device(name: str) -> torch.device | None:
    """The device of a name, whether this machine has it or not; None for `auto`."""
    if name == AUTO:
        return None
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise Misuse(f"--device {name!r} is not a device: auto, cpu, cuda, cuda:1, mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise Misuse(f"--device {device} is not supported: auto, cpu, cuda or mps")
    return device


def _check_present(device: torch.device) -> None:
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Misuse(
            f"--device {device} is not available: {torch.cuda.device_count()} CUDA devices found"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise Misuse("--device mps is not available: this torch has no Apple GPU")


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 if the hardware supports it natively, else fp32."""
    check_precision(name)
    if name == AUTO:
        return "bf16" if native_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise Misuse("--precision fp16 needs a GPU; on the CPU choose fp32 or bf16")
    return name


def check_precision(name: str) -> None:
    """Raise Misuse for a name that is no precision on any machine."""
    if name not in (AUTO, *PRECISIONS):
        raise Misuse(f"--precision {name!r} is unknown: auto, {', '.join(PRECISIONS)}")


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; from pinned memory on CUDA, so that the host does not wait for it."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def native_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products run in hardware on this device."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False
