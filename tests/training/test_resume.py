"""Training that is killed, interrupted or out of disk resumes to the same result."""

import errno
import hashlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import trainee
from support.small_training import fit, interrupt_at, log_of

from g2dbench.errors import BadCheckpoint, Misuse, Stopped
from g2dbench.pretrained.weights import state_digest
from g2dbench.runs import checkpoints
from g2dbench.runs.checkpoints import CheckpointPolicy, Checkpoints, parse_save_every
from g2dbench.runs.state import TrainingState
from g2dbench.training import interrupts
from g2dbench.training.interrupts import Interrupts

pytestmark = pytest.mark.integration

WALL_CLOCK = ("images_per_s", "seconds")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fingerprint(out: Path) -> dict[str, str]:
    """Hashes of the weights, of the optimizer state, and of the log without times."""
    kept = torch.load(trainee.newest(out), weights_only=True)
    moments = {
        f"{index}.{name}": value
        for index, values in kept["optimizer"]["state"].items()
        for name, value in values.items()
    }
    told = [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in kept["log"]]
    written = (out / "log.csv").read_text().splitlines()
    assert len(written) == 1 + len(told) == 1 + trainee.EPOCHS
    rest = [kept["epoch"], kept["batch"], kept["sums"], kept["optimizer"]["param_groups"]]
    return {
        "weights": state_digest(kept["method"]),
        "file": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        "optimizer": state_digest(moments),
        "schedule": repr(rest),
        "log": repr(told),
    }


def kill(out: Path, draw: random.Random) -> int:
    """Start the training and kill it within its next three steps; returns the step."""
    mine, its = trainee.FORKS.Pipe(duplex=False)
    process = trainee.run(trainee.train_toy, out, its, (out / "run.json").is_file())
    its.close()
    step = -1
    for _ in range(draw.randint(1, 3)):
        assert mine.poll(120), "the training stands still"
        step = int(mine.recv_bytes())
    time.sleep(draw.random() * 0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    return step


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_steps_ends_as_an_uninterrupted_one(
    workplace: Path, kills: int
) -> None:
    """Two workers read the images; most kills happen in the middle of an epoch."""
    state_restored = trainee.run(trainee.train_toy, workplace / "whole", None, False)
    draw = random.Random(0)
    steps = [kill(workplace / "part", draw) for _ in range(kills)]
    assert any((step + 1) % trainee.STEPS for step in steps)
    assert max(steps) < trainee.EPOCHS * trainee.STEPS - 1
    last = trainee.run(trainee.train_toy, workplace / "part", None, True)
    for process in (state_restored, last):
        process.join(120)
        assert process.exitcode == 0
    assert fingerprint(workplace / "part") == fingerprint(workplace / "whole")


def test_the_newest_checkpoints_are_kept_and_named_by_step(workplace: Path) -> None:
    run = fit(None, checkpointing=CheckpointPolicy(steps=3, keep=3))
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert [name[:14] for name in names] == ["step-000000008", "step-000000009", "step-000000012"]
    for name in names:
        content = (run.folder / "checkpoints" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest().startswith(name[15:31])


def test_a_damaged_checkpoint_falls_back_to_the_previous_one_with_a_warning(
    workplace: Path,
) -> None:
    whole = fit(workplace / "whole")
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(9), checkpointing=CheckpointPolicy(steps=3, keep=3))
    older, newer = sorted((out / "checkpoints").iterdir())[-2:]
    raw = bytearray(newer.read_bytes())
    raw[len(raw) // 2] ^= 1
    newer.write_bytes(raw)
    said: list[str] = []
    assert fit(out, resume=True, echo=said.append).info.digest == whole.info.digest
    (warning,) = [line for line in said if line.startswith("warning") and "broken" in line]
    assert str(newer) in warning
    assert older.name in warning
    assert newer.with_suffix(".broken").is_file()


def test_a_lost_log_is_restored_from_the_checkpoint(workplace: Path) -> None:
    whole, out = fit(workplace / "whole"), workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(9))
    (out / "log.csv").unlink()
    resumed = fit(out, resume=True)
    timeless = [
        [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in log_of(run)]
        for run in (whole, resumed)
    ]
    assert timeless[0] == timeless[1]


def test_a_full_disk_stops_with_the_last_checkpoint_intact(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = fit(workplace / "whole"), workplace / "run"
    save, calls = torch.save, []

    def full(kept: Any, file: Any) -> None:
        calls.append(kept["batch"])
        if len(calls) == 4:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(kept, file)

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(
        Stopped, match=r"checkpoint .* cannot be written .*No space.*free disk space"
    ):
        fit(out, checkpointing=CheckpointPolicy(steps=2))
    assert calls == [2, 0, 2, 0]
    monkeypatch.setattr(checkpoints.torch, "save", save)
    names = sorted(path.name[:14] for path in (out / "checkpoints").iterdir())
    assert names == ["step-000000004", "step-000000006"]
    assert fit(out, resume=True).info.digest == whole.info.digest


def test_a_checkpoint_of_another_version_or_method_is_refused(workplace: Path) -> None:
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(1))
    path = trainee.newest(out)
    kept = torch.load(path, weights_only=True)
    for changes, said in (
        ({"version": 1}, "another version"),
        ({"method": {}}, "does not fit"),
        ({"epoch": None, "optimizer": {"state": {}, "param_groups": []}}, "does not fit the run"),
    ):
        partial = path.parent / "other"
        torch.save({**kept, **changes}, partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()[:16]
        partial.replace(path.parent / f"step-000000099-{digest}.pt")
        with pytest.raises(BadCheckpoint, match=said):
            fit(out, resume=True)
        next(path.parent.glob("step-000000099*")).unlink()


@pytest.mark.parametrize(
    ("text", "checkpointing"),
    [
        (None, CheckpointPolicy()),
        ("500", CheckpointPolicy(steps=500)),
        ("90s", CheckpointPolicy(seconds=90)),
        (" 15m", CheckpointPolicy(seconds=900)),
        ("2h", CheckpointPolicy(seconds=7200)),
    ],
)
def test_save_every_takes_steps_or_a_time(
    text: str | None, checkpointing: CheckpointPolicy
) -> None:
    assert parse_save_every(text, 2) == checkpointing


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "1.5h", "10 m", "m", "1d"])
def test_an_invalid_save_every_is_refused(text: str) -> None:
    with pytest.raises(Misuse, match="--save-every"):
        parse_save_every(text, 2)


def test_a_checkpoint_is_due_once_its_time_has_passed() -> None:
    by_time, by_step = CheckpointPolicy(seconds=60), CheckpointPolicy(steps=5)
    assert [by_time.due(5, seconds) for seconds in (0, 59, 60, 61)] == [False, False, True, True]
    assert [by_step.due(step, 1e9) for step in (4, 5, 6, 10)] == [False, True, False, True]
    assert not CheckpointPolicy().due(5, 1e9)


def test_saving_never_leaves_fewer_checkpoints_than_keep(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c", CheckpointPolicy(keep=1))
    for step in (1, 2):
        kept.save(step, TrainingState(), {})
        (path,) = (tmp_path / "c").iterdir()
        assert kept.newest() == (path, [])
    path.write_bytes(b"")
    with pytest.raises(BadCheckpoint, match=r"all are broken \(step-000000002.*checksum e3b0c44"):
        kept.newest()


def interrupt_and_wait() -> None:
    """Wait, since Python handles a signal between two instructions, not at once."""
    signal.raise_signal(signal.SIGINT)
    time.sleep(1)


def test_a_signal_requests_a_stop_a_repetition_is_ignored_and_a_later_one_stops_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a shell starts background processes with SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupts() as asked:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert asked.requested
        monkeypatch.setattr(interrupts, "REPEAT_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            interrupt_and_wait()
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_workers_ignore_ctrl_c(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends it to all processes; a stopped worker would be another error."""
    monkeypatch.setattr("g2dbench.training.batches.pair_loader.CACHE_BYTES", 0)
    whole = fit(workplace / "whole", workers=0)

    def interrupt(items: Any, title: str, total: int | None = None) -> Any:
        for batch in items:
            if batch.step == 5:
                for worker in multiprocessing.active_children():
                    os.kill(int(worker.pid or 0), signal.SIGINT)
                    os.kill(int(worker.pid or 0), signal.SIGTERM)
            if batch.step == 6:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with pytest.raises(Stopped, match="epoch 2 after batch 3 of 4"):
        fit(workplace / "run", workers=1, progress=interrupt)
    resumed = fit(workplace / "run", workers=1, resume=True)
    assert resumed.info.digest == whole.info.digest
