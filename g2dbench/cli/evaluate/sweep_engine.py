"""The engine of a sweep from the command line's options, with the number of its workers."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from g2dbench.errors import Misuse

if TYPE_CHECKING:
    from g2dbench.evaluation.cell_spec import CellSpec
    from g2dbench.evaluation.sweep.engine import Engine
    from g2dbench.evaluation.sweep.job import JobSettings
    from g2dbench.evaluation.workbench import Workbench

SLURM_JOBS = 16


class Engines(StrEnum):
    """Where cells run."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


def make_engine(
    on: Engines,
    bench: "Workbench",
    settings: "JobSettings",
    cells: int,
    need: "Mapping[CellSpec, float]",
    jobs: int | None,
    gpu_share: float,
    address: str | None,
    parameters: dict[str, Any],
) -> "tuple[Engine, int]":
    """The engine, and how many cells it runs at the same time; of Ray, on this machine alone."""
    from g2dbench.evaluation.sweep.local import LocalPool, device_memory, worker_devices
    from g2dbench.evaluation.sweep.ray_cluster import RayCluster
    from g2dbench.evaluation.sweep.slurm import SlurmArrays

    if address is not None and on is not Engines.ray:
        raise Misuse("--address is for --on ray")
    if parameters and on is not Engines.slurm:
        raise Misuse("--slurm is for --on slurm")
    devices = worker_devices(settings, cells, jobs, gpu_share)
    if on is Engines.local:
        return LocalPool(bench, settings, devices, device_memory(devices), need.get), len(devices)
    if on is Engines.ray:
        gpus = gpu_share if settings.machine.device.type == "cuda" else 0.0
        engine = RayCluster(bench, settings, address, jobs, gpus, need.get)
        return engine, jobs or len(devices)
    _check_gpus(parameters, settings)
    cluster = str(parameters.pop("cluster", "slurm"))
    most = jobs or SLURM_JOBS
    return SlurmArrays(bench, settings, most, parameters, cluster), min(most, max(1, cells))


def _check_gpus(parameters: "Mapping[str, Any]", settings: "JobSettings") -> None:
    """Misuse if jobs ask for GPUs that their cells would leave idle."""
    if settings.machine.device.type != "cpu":
        return
    for key, value in parameters.items():
        if "gpu" in key or ("gres" in key and "gpu" in str(value)):
            raise Misuse(
                f"--slurm {key} asks for GPUs, but the cells would run on the CPU: they use the "
                "device of the machine where the sweep starts; start it on a node with a GPU, or "
                f"leave out --slurm {key}"
            )


def parse_parameters(words: list[str] | None) -> dict[str, Any]:
    """`["KEY=VALUE", ...]` with whole numbers as int; Misuse for another form."""
    parsed: dict[str, Any] = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise Misuse(f"--slurm {word!r}: write KEY=VALUE, such as timeout_min=120")
        parsed[key] = int(value) if value.isdecimal() else value
    return parsed
