"""One training at a time writes a run folder; the second one says who does, and exits with 75."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from g2dbench.errors import Busy, Misuse
from g2dbench.runs import location
from g2dbench.system.locks import locked_at_once, try_lock

HOLD = """
import sys, time, os
from pathlib import Path
from g2dbench.runs import location
with location.reserved(Path(sys.argv[1]), new=False):
    if os.fork() == 0:  # a worker that outlives its parent
        print("held", flush=True)
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_second_says_who_holds_the_run(tmp_path: Path, holder: subprocess.Popen) -> None:
    for new in (False, True):
        with (
            pytest.raises(Busy, match=rf"process {holder.pid} on .*since .*wait"),
            location.reserved(tmp_path, new=new),
        ):
            pass
    with pytest.raises(Busy, match=f"process {holder.pid}"):
        location.new_folder(tmp_path, "x", 0)


def test_a_killed_holder_blocks_nobody_though_its_worker_lives(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    with location.reserved(tmp_path, new=True):
        pass


def test_a_folder_that_was_filled_in_the_meantime_is_refused(tmp_path: Path) -> None:
    assert location.new_folder(tmp_path, "x", 0) == tmp_path
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(Misuse, match="already holds a run"), location.reserved(tmp_path, new=True):
        pass


def test_a_lock_is_free_again_after_its_end(tmp_path: Path) -> None:
    for _ in range(2):
        with locked_at_once(tmp_path / "a"), try_lock(tmp_path / "a") as other:
            assert other is not None
            assert f"process {os.getpid()}" in other
    with try_lock(tmp_path / "a") as other:
        assert other is None
