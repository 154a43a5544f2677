"""`g2dbench sweep`: what is printed before and while cells run, and wrong requests."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.cli.evaluate.sweep_engine import parse_parameters
from g2dbench.cli.evaluate.sweep_progress import SweepProgress
from g2dbench.errors import Misuse
from g2dbench.evaluation.cell_spec import CellSpec
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.sweep.engine import Ended, Event, Notice, Started
from g2dbench.evaluation.sweep.job import JobSettings
from g2dbench.evaluation.sweep.local import worker_devices
from g2dbench.result import Cell, Provenance, Result
from g2dbench.system.available_memory import available_mib
from g2dbench.system.machine import MachineRequest
from g2dbench.system.process_age import process_age

PLAN = """
models = ["random-init"]
data = ["synthetic:120"]
tasks = ["cls"]
protocols = ["knn"]
fractions = [0.5, 1]
"""


def invoke(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["sweep", *map(str, words)])
    return found.exit_code, " ".join(found.output.split())


def test_the_plan_is_printed_before_and_after_the_cells_are_on_disk(
    tmp_path: Path, small_store: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    words = [plan, "--store", small_store, "--size", 64, "--out", tmp_path / "results"]
    code, output = invoke(*words, "--plan")
    assert code == 0
    assert "random-init cls:knn synthetic:120 50% seed 0 time unknown" in output
    assert "2 cells: 0 on disk, 2 to run; 2 have no earlier result to estimate from" in output
    assert not list((tmp_path / "results").rglob("result.json"))
    evaluate = ["eval", "--task", "cls", "--protocol", "knn", "--fraction", "1", "--model"]
    evaluate += ["random-init", "--data", "synthetic:120", *map(str, words[1:])]
    assert CliRunner().invoke(app, evaluate).exit_code == 0
    _, output = invoke(*words, "--plan")
    assert "100% seed 0 on disk" in output
    assert re.search(r"2 cells: 1 on disk, 1 to run; 1 of these take about \S+ (s|min) on", output)
    elsewhere = [*words[:-1], tmp_path / "others", "--earlier", tmp_path / "results"]
    _, output = invoke(*elsewhere, "--plan", "--fraction", 1)
    assert "1 cell: 0 on disk, 1 to run; 1 of these take about" in output


def test_zero_shot_cells_have_no_fraction_in_the_plan(tmp_path: Path, small_store: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        PLAN.replace('tasks = ["cls"]', 'tasks = ["zeroshot"]').replace('"knn"', '"g2d"')
    )
    code, output = invoke(
        plan, "--plan", "--seed", 0, "--seed", 1, "--store", small_store, "--size", 64,
        "--out", tmp_path / "results",
    )  # fmt: skip
    assert code == 0
    for seed in (0, 1):
        assert f"random-init zeroshot:g2d synthetic:120 zero-shot seed {seed} time" in output
    assert "2 cells" in output
    assert "%" not in output


def test_a_broken_plan_is_a_wrong_request(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace("[0.5, 1]", "[2]"))
    assert invoke(plan) == (
        2, f"error: {plan}, grid 1: entry 1 of fractions = 2 must be at most 1"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what to evaluate: a plan"),
        (("none.toml",), "there is no plan none.toml"),
        (
            ("--task", "cls", "--model", "random-init", "--out", "zz://b"),
            "is not the address",
        ),
        (("--task", "cls", "--model", "random-init", "--address", "auto"), "is for --on ray"),
        (("--task", "cls", "--model", "random-init", "--slurm", "a=1"), "is for --on slurm"),
        (("--task", "cls", "--model", "random-init", "--slurm", "a"), "write KEY=VALUE"),
        (
            (
                "--task",
                "cls",
                "--model",
                "random-init",
                "--on",
                "slurm",
                "--device",
                "cpu",
                "--slurm",
                "gpus_per_node=1",
            ),
            "asks for GPUs that --device cpu leaves idle",
        ),
    ],
)
def test_wrong_requests_are_sentences(
    words: tuple[str, ...], message: str, small_store: Path, tmp_path: Path
) -> None:
    more = ["--data", "synthetic:120", "--size", 64, "--store", small_store]
    out = [] if "--out" in words else ["--out", tmp_path]
    code, output = invoke(*words, *more, *out)
    assert code == 2
    assert message in output


def test_parameters_of_slurm_are_numbers_where_they_look_so() -> None:
    found = parse_parameters(["timeout_min=120", "slurm_partition=gpu", "slurm_qos=a=b"])
    assert found == {"timeout_min": 120, "slurm_partition": "gpu", "slurm_qos": "a=b"}
    with pytest.raises(Misuse, match="KEY=VALUE"):
        parse_parameters(["timeout_min"])


def spec(seed: int) -> CellSpec:
    return CellSpec(model="m", task="cls", data="d", protocol="p", seed=seed, store=Path())


def ended(seed: int, status: str, reason: str | None = None) -> Ended:
    cell = Cell(model="m", task="cls", protocol="p", data="d", fraction=1.0, seed=seed)
    origin = Provenance(version="0", weights="w", data="d", subset="s")
    result = Result(cell=cell, status=status, metric="auc", reason=reason, provenance=origin)
    return Ended(spec(seed), Outcome(result, None, reused=False))


def test_plain_progress_counts_cells_and_names_each_reason_once_at_the_end(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("g2dbench.cli.evaluate.sweep_progress.LINE_SECONDS", -1.0)
    progress = SweepProgress(4, expected=100.0)

    def events() -> Iterator[Event]:
        yield from (Started(spec(0)), Started(spec(1)))
        assert progress.line().startswith("0/4 cells, 0 failed, 2 running, about 1.7 min left")
        yield Notice("a worker process was killed")
        yield ended(0, "failed", "no memory [here]")
        yield Started(spec(2))
        yield ended(1, "failed", "no memory [here]")
        yield ended(2, "done")
        yield Started(spec(3))
        yield ended(3, "failed", "another reason")

    assert len(list(progress.follow(events()))) == 4
    output = " ".join(capsys.readouterr().out.split())
    assert "note: a worker process was killed" in output
    assert "1/4 cells, 1 failed, 2 running" in output
    first, second = "m cls:p d 100% seed 0", "m cls:p d 100% seed 3"
    assert f"failed: {first} and 1 others: no memory [here]" in output
    assert output.endswith(f"failed: {second}: another reason")


def test_workers_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices(device: str, threads: int = 1, jobs: int | None = None, share: float = 1) -> list:
        settings = JobSettings(
            machine=MachineRequest(device=device, precision="fp32"), out=Path(), threads=threads
        )
        return worker_devices(settings, 100, jobs, share)

    monkeypatch.setattr("g2dbench.evaluation.sweep.local.default_workers", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices("cpu") == ["cpu"] * 8
    assert devices("cpu", threads=3) == ["cpu"] * 2
    assert devices("cpu", jobs=20) == ["cpu"] * 20
    assert devices("cuda") == ["cuda:0", "cuda:1"]
    assert devices("cuda", share=0.5) == ["cuda:0", "cuda:1"] * 2
    assert devices("cuda:1") == ["cuda:1"]
    assert devices("cuda", jobs=3) == ["cuda:0", "cuda:1", "cuda:0"]


def test_available_memory_is_below_that_of_the_machine() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) / 1024
    assert 0 < available_mib() < total


def test_the_age_of_this_process_grows_and_is_above_its_processor_time() -> None:
    before = process_age()
    time.sleep(0.05)
    assert 0.03 < process_age() - before < 5
    assert process_age() > time.process_time() / 4


def test_an_earlier_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    code, output = invoke(plan, "--plan", "--out", tmp_path / "out", "--earlier", tmp_path / "no")
    assert code == 2
    assert "there is no results folder" in output
    assert "--earlier" in output


def test_eval_takes_a_fraction_or_shots_and_not_both() -> None:
    words = ["eval", "--model", "chance", "--task", "cls", "--fraction", "0.1", "--shots", "1"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "give one of them" in found.output
