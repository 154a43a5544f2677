"""The engine of a sweep from the command line's options, with the number of its workers."""

from collections.abc import Mapping
from dataclasses import replace
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
    """The engine, and how many cells it runs at the same time."""
    from g2dbench.evaluation.sweep.local import LocalPool, device_memory, worker_devices
    from g2dbench.evaluation.sweep.ray_cluster import RayCluster
    from g2dbench.evaluation.sweep.slurm import SlurmArrays

    if address is not None and on is not Engines.ray:
        raise Misuse("--address is for --on ray")
    if parameters and on is not Engines.slurm:
        raise Misuse("--slurm is for --on slurm")
    if on is Engines.local:
        devices = worker_devices(settings, cells, jobs, gpu_share)
        return LocalPool(bench, settings, devices, device_memory(devices), need.get), len(devices)
    if settings.machine.device.startswith("cuda:"):
        raise Misuse(
            f"--device {settings.machine.device} names one GPU of one machine: with --on "
            f"{on.value}, write --device cuda"
        )
    if on is Engines.ray:
        ray = RayCluster(bench, settings, address, jobs, gpu_share, need.get)
        if address is not None:
            return ray, min(ray.workers(), max(1, cells))
        return ray, len(worker_devices(settings, cells, jobs, gpu_share))
    settings = _with_gpus_of_jobs(settings, parameters)
    cluster = str(parameters.pop("cluster", "slurm"))
    most = jobs or SLURM_JOBS
    return SlurmArrays(bench, settings, most, parameters, cluster), min(most, max(1, cells))


def _with_gpus_of_jobs(settings: "JobSettings", parameters: "Mapping[str, Any]") -> "JobSettings":
    """Jobs that ask for a GPU use it, or their cells fail: none falls back to the CPU unseen."""
    asking = [
        key for key, value in parameters.items()
        if "gpu" in key or ("gres" in key and "gpu" in str(value))
    ]  # fmt: skip
    if not asking:
        return settings
    if settings.machine.device == "cpu":
        raise Misuse(
            f"--slurm {asking[0]} asks for GPUs that --device cpu leaves idle: leave out one of "
            "the two"
        )
    return replace(settings, machine=replace(settings.machine, device="cuda"))


def parse_parameters(words: list[str] | None) -> dict[str, Any]:
    """`["KEY=VALUE", ...]` with whole numbers as int; Misuse for another form."""
    parsed: dict[str, Any] = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise Misuse(f"--slurm {word!r}: write KEY=VALUE, such as timeout_min=120")
        parsed[key] = int(value) if value.isdecimal() else value
    return parsed
