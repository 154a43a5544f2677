"""Run folders: damaged and mixed ones are refused, and the newest one is found."""

import json
from pathlib import Path

import pytest
from support.small_training import Toys, fit, interrupt_at, recipe
from support.training import runs as finished
from support.training.runs import weights

from g2dbench.errors import BadCheckpoint, Stopped
from g2dbench.runs import folder as runs
from g2dbench.runs.folder import load_run, newest_run

pytestmark = pytest.mark.integration

workplace = finished.workplace


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", b"{", "cannot be read"),
        ("run.json", b"[]", "schema version None"),
        ("run.json", b'{"schema_version": 9}', "schema version 9"),
        ("run.json", b'{"schema_version": 1}', "does not describe a run: label"),
        ("run.json", None, "cannot be read"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", b"{}", "cannot be rebuilt"),
        ("model.safetensors", None, "cannot read the weights"),
        ("model.safetensors", b"\x80\x04cos\nsystem\n(S'true'\ntR.", "safetensors"),
    ],
)
def test_a_damaged_run_folder_is_refused_with_a_reason(
    workplace: Path, file: str, content: bytes | None, message: str
) -> None:
    run = fit(None, epochs=1)
    path = run.folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=message):
        load_run(run.folder, Toys())


def test_files_of_different_runs_are_refused(workplace: Path) -> None:
    one, two = fit(None, epochs=1), fit(None, epochs=1, seed=1)
    wide = fit(None, epochs=1, recipe=recipe(width=4))
    (one.folder / runs.WEIGHTS_FILE).write_bytes((two.folder / runs.WEIGHTS_FILE).read_bytes())
    with pytest.raises(BadCheckpoint, match="are of different runs"):
        load_run(one.folder, Toys())
    (one.folder / runs.WEIGHTS_FILE).write_bytes((wide.folder / runs.WEIGHTS_FILE).read_bytes())
    with pytest.raises(BadCheckpoint, match=r"conv.weight is"):
        load_run(one.folder, Toys())
    lacking = weights(two)
    del lacking["norm.bias"]
    from safetensors.torch import save_file

    save_file(lacking, two.folder / runs.WEIGHTS_FILE)
    with pytest.raises(BadCheckpoint, match=r"missing 1 \(norm.bias\)"):
        load_run(two.folder, Toys())


def test_the_newest_run_is_the_one_that_was_completed_last(workplace: Path) -> None:
    assert newest_run(workplace / "runs") is None
    first, second = fit(None, epochs=1), fit(None, epochs=1, seed=1)
    with pytest.raises(Stopped):
        fit(None, seed=2, progress=interrupt_at(5))
    assert newest_run(Path("runs")) == second.folder
    info = json.loads((first.folder / "run.json").read_text())
    info["finished"] = "2999-01-01T00:00:00+00:00"
    (first.folder / "run.json").write_text(json.dumps(info))
    assert newest_run(Path("runs")) == first.folder
