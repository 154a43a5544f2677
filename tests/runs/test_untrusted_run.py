"""A stranger's run folder: nothing is fetched, broken ones do not hide the others."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from g2dbench.cli import app
from g2dbench.errors import BadCheckpoint
from g2dbench.runs.folder import RUN_FILE, all_runs, load_run, read_info, scan_runs

pytestmark = pytest.mark.integration


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / "run"))


def edit(folder: Path, table: str, **values: object) -> None:
    path = folder / RUN_FILE
    raw = json.loads(path.read_text())
    raw["architecture"].setdefault(table, {}).update(values)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("image", {"weights": "imagenet"}),
        ("image", {"encoder": "tu-hf-hub:somebody/model"}),
        ("text", {"source": "somebody/bert"}),
    ],
)
def test_a_run_that_names_the_network_is_refused_and_nothing_is_asked(
    run: Path, monkeypatch: pytest.MonkeyPatch, table: str, values: dict[str, str]
) -> None:
    contacts: list[object] = []

    def contact(*address: object, **_: object) -> None:
        contacts.append(address)
        raise OSError("this test has no network")

    # Below the guard: what gets here would have left the machine.
    monkeypatch.setattr(socket, "getaddrinfo", contact)
    monkeypatch.setattr(socket.socket, "connect", contact)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    edit(run, table, **values)
    with pytest.raises(BadCheckpoint):
        load_run(run)
    assert contacts == []


def test_broken_runs_are_named_and_the_others_found(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = run.parent
    for name, content in {"a": b"{", "b": b"\xff", "c": b"[" * 100000, "d": b"9" * 5000}.items():
        (parent / name).mkdir()
        (parent / name / RUN_FILE).write_bytes(content)
    (parent / "pipe").mkdir()
    os.mkfifo(parent / "pipe" / RUN_FILE)
    found, problems = scan_runs(parent)
    assert [folder for folder, _ in found] == [run]
    assert len(problems) == 5
    assert all_runs(parent) == found
    with pytest.raises(BadCheckpoint):
        read_info(parent / "pipe")
    monkeypatch.chdir(parent.parent)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "left out" in done.output


@pytest.mark.parametrize(
    ("table", "values", "said"),
    [
        ("text", {"vocab_size": 10**9}, r"architecture\.text\.vocab_size is 1e\+09"),
        ("text", {"depth": 10**6}, r"architecture\.text\.depth is 1e\+06"),
        ("text", {"width": 65536}, "larger than its model.safetensors|cannot be rebuilt"),
        ("text", {"width": float("inf")}, "width is inf"),
    ],
)
def test_sizes_are_bounded_before_memory_is_taken(
    run: Path, table: str, values: dict[str, float], said: str
) -> None:
    edit(run, table, **values)
    with pytest.raises(BadCheckpoint, match=said):
        load_run(run)
