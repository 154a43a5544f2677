"""Temporary files of killed writers are removed by the next one, and only those."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from g2dbench.system import temporaries
from g2dbench.system.files import replace_file
from g2dbench.system.temporaries import is_dead, owner, remove_dead, temporary_path

WRITE = """
import sys, time
from pathlib import Path
from g2dbench.system.files import replace_file
def slow(temporary):
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
replace_file(Path(sys.argv[1]) / "a.json", slow)
"""


@pytest.fixture
def writer(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_next_writer_removes_the_file_of_a_killed_one(
    tmp_path: Path, writer: subprocess.Popen
) -> None:
    assert len(hidden(tmp_path)) == 1
    replace_file(tmp_path / "b.json", lambda path: path.write_text("{}"))
    assert len(hidden(tmp_path)) == 1, "the writer lives"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    replace_file(tmp_path / "b.json", lambda path: path.write_text("{}"))
    assert hidden(tmp_path) == []


def test_a_process_that_the_system_hides_may_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = temporary_path(tmp_path / "a.json")
    monkeypatch.setattr(temporaries, "_start", lambda process: 0)  # /proc with hidepid
    assert not is_dead(mine)
    monkeypatch.setattr(temporaries, "_start", lambda process: -1)
    assert is_dead(mine)


def test_a_process_that_got_the_same_number_later_is_another_one(tmp_path: Path) -> None:
    machine, process, start = owner().split("-")
    mine = temporary_path(tmp_path / "a.json")
    assert not is_dead(mine)
    other = tmp_path / mine.name.replace(owner(), f"{machine}-{process}-{int(start) - 1}")
    assert is_dead(other)


def test_files_of_another_machine_count_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / f".a.json.00000000-{os.getpid()}-1-aaaaaaaa.json"
    foreign.touch()
    assert not is_dead(foreign)
    os.utime(foreign, (0, time.time() - 90_000))
    assert is_dead(foreign)
    monkeypatch.setattr(temporaries, "_machine", lambda: "00000000")
    assert is_dead(foreign), "this machine has no such process"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    names = [".hidden", "a.json", ".a.json.1234.json", "run-12345678-1-2-x", ".x-1-2-3-4.txt"]
    for name in names:
        (tmp_path / name).touch()
    remove_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
