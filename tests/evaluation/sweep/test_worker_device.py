"""The device and the precision are chosen by the worker, not where the sweep starts."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.sweeps import SmallSweep, run

from g2dbench.cli.evaluate.sweep_engine import Engines, make_engine
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.planning.timings import Timings, earlier_results
from g2dbench.evaluation.sweep import ray_cluster
from g2dbench.evaluation.sweep.engine import InProcess, Notice
from g2dbench.evaluation.sweep.job import JobResult, JobSettings, run_job
from g2dbench.evaluation.sweep.local import LocalPool
from g2dbench.evaluation.sweep.ray_cluster import RayCluster
from g2dbench.evaluation.sweep.slurm import SlurmArrays
from g2dbench.system.machine import MachineRequest


@pytest.fixture
def small(tmp_path: Path, small_store: Path) -> SmallSweep:
    return SmallSweep(tmp_path, small_store)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def chosen(engine: Any) -> str:
    return str(engine.settings.machine.device)


def engine(
    small: SmallSweep, on: Engines, device: str, *, address: str | None = None, **slurm: Any
) -> Any:
    settings = small.settings(device=device)
    return make_engine(on, small.bench, settings, 3, {}, None, 0.5, address, slurm)[0]


def test_a_worker_without_the_gpu_that_was_asked_for_fails_its_cell(
    small: SmallSweep, no_gpu: None
) -> None:
    (cell,) = small.cells("lamp:x", seeds=1, fractions=(1.0,))
    found = run_job(cell, small.settings(device="cuda"))
    assert found.outcome is None
    assert found.reason == (
        f"the worker on {socket.gethostname()} cannot run it: "
        "--device cuda is not available: 0 CUDA devices found"
    )


@pytest.mark.integration
def test_the_cells_of_a_worker_without_its_gpu_fail_and_are_not_stored(
    small: SmallSweep, no_gpu: None
) -> None:
    """The workers are processes of their own, which see that there is no such GPU."""
    if torch.cuda.device_count():
        pytest.skip("this machine has a GPU")
    cells = small.cells("lamp:x", seeds=1)
    pool = LocalPool(small.bench, small.settings(device="auto"), ["cuda:0"], {})
    outcomes, _ = run(pool, cells)
    for outcome in outcomes.values():
        assert outcome.result.status == "failed"
        assert "--device cuda:0 is not available" in str(outcome.result.reason)
        assert outcome.folder is None


def test_precision_auto_is_that_of_the_worker_and_is_part_of_the_cell(
    small: SmallSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = small.cells("lamp:x", seeds=1, fractions=(1.0,))
    automatic = cell.model_copy(update={"precision": "auto"})
    settings = JobSettings(machine=MachineRequest(), out=small.folder / "results")
    for native, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("g2dbench.system.device.native_bf16", lambda device, n=native: n)
        found = run_job(automatic, settings).outcome
        assert found is not None
        assert not found.reused
        assert found.result.cell.precision == found.result.provenance.precision == precision
    named = run_job(cell, settings).outcome
    assert named is not None
    assert named.reused  # fp32, named or chosen, is one cell
    timings = Timings(earlier_results(settings.out))
    for precision, done in (("auto", True), ("bf16", True), ("fp16", False)):
        asked = cell.model_copy(update={"precision": precision})
        assert timings.is_done(asked, small.bench.dataset(asked), per_seed=False) == done


def test_names_that_no_machine_has_are_found_where_the_sweep_starts() -> None:
    for wrong in ({"device": "gpu"}, {"device": "meta"}, {"precision": "fp8"}):
        with pytest.raises(Misuse):
            MachineRequest(**wrong)
    MachineRequest(device="cuda:7", precision="fp16")  # another machine may have them


def test_jobs_of_slurm_that_ask_for_gpus_must_use_them(small: SmallSweep, no_gpu: None) -> None:
    for parameter in ({"gpus_per_node": 1}, {"slurm_gres": "gpu:1"}):
        arrays = engine(small, Engines.slurm, "auto", **parameter)
        assert isinstance(arrays, SlurmArrays)
        assert chosen(arrays) == "cuda"
        with pytest.raises(Misuse, match="--device cpu leaves idle"):
            engine(small, Engines.slurm, "cpu", **parameter)
    assert chosen(engine(small, Engines.slurm, "auto", timeout_min=5)) == "auto"
    assert chosen(engine(small, Engines.slurm, "cuda")) == "cuda"


def test_one_gpu_of_one_machine_is_only_for_this_machine(small: SmallSweep) -> None:
    for on in (Engines.ray, Engines.slurm):
        with pytest.raises(Misuse, match="write --device cuda"):
            engine(small, on, "cuda:1")


class FakeRay:
    """A cluster whose workers are this process; notes what tasks ask for."""

    def __init__(self, **resources: float) -> None:
        self.resources, self.asked = resources, []
        self.exceptions = SimpleNamespace(RayError=RuntimeError, RayTaskError=RuntimeError)

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, Any]]:
        return []

    def remote(self, function: Any) -> Any:
        def options(**asked: Any) -> Any:
            def start(folder: Path, spec: CellSpec, settings: JobSettings) -> "FakeTask":
                self.asked.append((asked["num_gpus"], asked["memory"], settings.machine.device))
                return FakeTask(function(folder, spec, settings))

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, tasks: list["FakeTask"], timeout: float) -> tuple[list["FakeTask"], list]:
        return tasks, []

    def get(self, task: "FakeTask") -> JobResult:
        return task.result


class FakeTask:
    def __init__(self, result: JobResult) -> None:
        self.result = result


@pytest.mark.parametrize(
    ("device", "gpus", "workers", "asked"),
    [
        ("auto", 2, 4, (0.5, None, "cuda")),
        ("cuda", 2, 4, (0.5, None, "cuda")),
        ("cuda", 0, 1, (0.5, None, "cuda")),
        ("auto", 0, 8, (0.0, 100 << 20, "auto")),
        ("cpu", 2, 8, (0.0, 100 << 20, "cpu")),
    ],
)
def test_ray_gives_cells_the_gpus_of_the_cluster_not_those_of_the_driver(
    device: str,
    gpus: int,
    workers: int,
    asked: tuple[float, int | None, str],
    small: SmallSweep,
    no_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = FakeRay(CPU=8, **({"GPU": gpus} if gpus else {}))
    monkeypatch.setattr(ray_cluster, "_ray", lambda: ray)
    cluster = RayCluster(
        small.bench, small.settings(device=device), "auto", None, 0.5, need=lambda spec: 100.0
    )
    assert cluster.workers() == workers
    (cell,) = small.cells("lamp:x", seeds=1, fractions=(1.0,))
    outcomes, events = run(cluster, [cell])
    assert ray.asked == [asked]
    failed = outcomes[cell].result.status == "failed"
    assert failed == (asked[2] == "cuda")  # a torch that cannot use the GPU: told, not the CPU
    waits = [event.text for event in events if isinstance(event, Notice)]
    assert bool(waits) == (device == "cuda" and gpus == 0)


def test_in_one_process_the_device_is_there_before_the_first_cell(
    small: SmallSweep, no_gpu: None
) -> None:
    with pytest.raises(Misuse, match="0 CUDA devices"):
        InProcess(small.bench, small.settings(device="cuda"))
