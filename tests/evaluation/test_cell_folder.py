"""A cell's folder: whole or not at all, one writer, and never worse than before."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from g2dbench.evaluation.cell_folder import finished, publish, remove_abandoned, reserved
from g2dbench.evaluation.outcome import Outcome
from g2dbench.evaluation.sweep import engine
from g2dbench.evaluation.sweep.job import JobSettings
from g2dbench.result import (
    PREDICTIONS_FILE,
    RESULT_FILE,
    Cell,
    Provenance,
    Result,
    load,
    load_all,
    result_files,
    save,
)
from g2dbench.system.files import file_digest
from g2dbench.system.machine import MachineRequest

CELL = Cell(model="m", task="cls", data="d", protocol="g2d", fraction=1.0)


def write(folder: Path, value: float, status: str = "done") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": ["a"], "value": [value]}).to_parquet(folder / PREDICTIONS_FILE)
    digest = file_digest(folder / PREDICTIONS_FILE)
    provenance = Provenance(version="0", weights="w", data="d", subset="s", predictions=digest)
    save(Result(cell=CELL, status=status, metric="auc", provenance=provenance), folder)


def test_publish_replaces_a_cell_as_a_whole(tmp_path: Path) -> None:
    place = tmp_path / "cls" / "cell"
    for value in (1.0, 2.0):
        with reserved(place, tmp_path) as partial:
            write(partial, value)
            publish(partial, place)
    assert pd.read_parquet(place / PREDICTIONS_FILE)["value"].tolist() == [2.0]
    assert finished(place) is not None
    assert [path.name for path in place.parent.iterdir()] == ["cell"]
    assert len(load_all(tmp_path)) == 1


def test_a_cell_with_other_predictions_or_a_broken_result_is_not_finished(tmp_path: Path) -> None:
    write(tmp_path, 1.0)
    assert finished(tmp_path) is not None
    (tmp_path / PREDICTIONS_FILE).write_bytes(b"other")
    assert finished(tmp_path) is None
    write(tmp_path, 1.0, status="failed")
    assert finished(tmp_path) is None
    (tmp_path / RESULT_FILE).write_text("{")
    assert finished(tmp_path) is None
    assert finished(tmp_path / "nothing") is None


def test_hidden_folders_are_no_results_and_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "results" / ".cell.partial", 1.0)
    write(tmp_path / "elsewhere" / "cell", 1.0)
    (tmp_path / "results" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "results" / "circle").symlink_to(tmp_path / "results")
    found = result_files(tmp_path / "results")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "results/linked/cell/result.json"
    ]


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from evaluation.test_cell_folder import write
from g2dbench.evaluation.cell_folder import publish, reserved
out = Path(sys.argv[1])
print("ready", flush=True)
value = 0.0
while True:
    value += 1
    with reserved(out / "cell", out) as partial:
        write(partial, value)
        publish(partial, out / "cell")
"""


@pytest.mark.slow
def test_no_kill_tears_a_finished_cell(tmp_path: Path) -> None:
    write(tmp_path / "cell", 0.0)
    tests = str(Path(__file__).parents[1])
    for number in range(30):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), tests], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.005 * number)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert finished(tmp_path / "cell") is not None


def _evaluate(out: Path, number: int) -> None:
    with reserved(out / "cell", out) as partial:
        if finished(out / "cell") is None:
            with (out / "ran.txt").open("a") as log:
                log.write(f"{number}\n")
            time.sleep(0.2)
            write(partial, float(number))
            publish(partial, out / "cell")


@pytest.mark.integration
def test_of_several_writers_one_runs_the_cell(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_evaluate, args=(tmp_path, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len((tmp_path / "ran.txt").read_text().split()) == 1
    assert finished(tmp_path / "cell") is not None


def test_readers_never_see_a_mixture(tmp_path: Path) -> None:
    write(tmp_path / "cell", 0.0)
    child = os.fork()
    if child == 0:
        for value in range(1, 40):
            with reserved(tmp_path / "cell", tmp_path) as partial:
                write(partial, float(value))
                publish(partial, tmp_path / "cell")
        os._exit(0)
    mixed = whole = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        place = os.open(tmp_path / "cell", os.O_RDONLY)
        try:  # one folder handle: both files are of the same generation
            with open(os.open(RESULT_FILE, os.O_RDONLY, dir_fd=place)) as file:
                digest = json.load(file)["provenance"]["predictions"]
            link = Path(f"/proc/self/fd/{place}") / PREDICTIONS_FILE
            same = file_digest(link) == digest
            whole, mixed = whole + same, mixed + (not same)
        except FileNotFoundError:
            pass  # the old folder was removed while it was read
        finally:
            os.close(place)
    assert mixed == 0
    assert whole > 0
    assert load(tmp_path / "cell" / RESULT_FILE).status == "done"


def test_leftovers_of_killed_evaluations_are_removed(tmp_path: Path) -> None:
    def place(name: str) -> Path:
        return tmp_path / "cls" / "data" / "model" / name

    for name in ("replaced", "running", "old"):
        write(place(name), 1.0)
    write(place(".replaced.partial"), 0.0)
    write(place(".old.old"), 0.0)
    place(".empty.partial").mkdir()
    (place(".half.partial") / PREDICTIONS_FILE).parent.mkdir()
    (place(".half.partial") / PREDICTIONS_FILE).write_text("half")
    place(".training.partial").mkdir()
    (place(".training.partial") / "fine_tuning.pt").write_text("an epoch")
    with reserved(place("running"), tmp_path) as partial:
        (partial / PREDICTIONS_FILE).write_text("now")
        remove_abandoned(tmp_path)
        left = {path.name for path in place("x").parent.iterdir()}
    assert left == {"replaced", "running", "old", ".running.partial", ".training.partial"}


def test_leftovers_are_looked_for_once_for_all_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(engine, "remove_abandoned", looked.append)
    monkeypatch.setattr(engine, "run_cell", lambda *_: Outcome(None, None, reused=False))
    settings = JobSettings(machine=MachineRequest(device="cpu"), out=tmp_path)
    assert len(list(engine.InProcess(None, settings).run([None] * 3))) == 6
    assert looked == [tmp_path]


def test_a_folder_that_vanishes_while_results_are_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "here"):
        write(tmp_path / name, 1.0)
    scan = os.scandir

    def vanishing(path: object) -> object:
        if str(path).endswith("gone"):
            shutil.rmtree(tmp_path / "gone", ignore_errors=True)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert [path.parent.name for path in result_files(tmp_path)] == ["here"]


def test_a_cell_between_two_renames_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "c" / "cell"
    write(place.with_name(".cell.old"), 1.0)
    with reserved(place, tmp_path):
        assert finished(place) is not None
