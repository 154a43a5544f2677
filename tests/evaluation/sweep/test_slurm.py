"""Job arrays, run by submitit's engine for this machine."""

from pathlib import Path

import pytest
from support.sweeps import SmallSweep, run, stored

from g2dbench.evaluation.sweep.engine import InProcess
from g2dbench.evaluation.sweep.slurm import SlurmArrays

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'g2dbench[slurm]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def small(tmp_path: Path, small_store: Path) -> SmallSweep:
    return SmallSweep(tmp_path, small_store)


def arrays(small: SmallSweep, **parameters: object) -> SlurmArrays:
    given = {"timeout_min": 10, **parameters}
    return SlurmArrays(small.bench, small.settings(), 2, given, cluster="local")


def test_arrays_give_the_bytes_of_one_process_and_a_killed_job_fails_its_cells(
    small: SmallSweep,
) -> None:
    cells = small.cells()
    run(InProcess(small.bench, small.settings("alone")), cells)
    small.clear_logs()
    (small.folder / "kill-2").touch()  # the first cell with seed 2 kills its job
    outcomes, _ = run(arrays(small), cells)
    failed = [outcome.result for outcome in outcomes.values() if outcome.result.status == "failed"]
    assert failed
    assert all("its Slurm job" in str(result.reason) for result in failed)
    before = small.log("cells").total()
    assert before == len(cells) - len(failed)
    again, _ = run(arrays(small), cells)  # the same command goes on
    assert {outcome.result.status for outcome in again.values()} == {"done"}
    assert sum(outcome.reused for outcome in again.values()) == before
    assert small.log("cells").total() == len(cells)
    assert stored(small.folder / "results") == stored(small.folder / "alone")


def test_a_job_that_reaches_its_time_limit_is_queued_again(small: SmallSweep) -> None:
    """The job waits in a cell until the limit; the cell's file is gone when it starts again."""
    task = small.folder / "probe_task.py"
    task.write_text(
        task.read_text().replace(
            "        time.sleep(0.05)",
            "        try:\n"
            "            time.sleep(600)\n"
            "        finally:\n"
            '            (FOLDER / f"wait-{run.seed}").unlink()',
        )
    )
    (small.folder / "wait-1").touch()
    cells = small.cells("lamp:x", seeds=2, fractions=(1.0,))
    outcomes, _ = run(arrays(small, timeout_min=1, signal_delay_s=10), cells)
    assert {outcome.result.status for outcome in outcomes.values()} == {"done"}
    assert small.log("cells").total() == 2
