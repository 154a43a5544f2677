"""An interrupted training resumes to the same weights, or says why it cannot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_training import Toys, fit, interrupt_at, log_of, recipe, some
from support.training import runs as finished
from support.training.runs import weights

from g2dbench.errors import BadCheckpoint, Misuse, Stopped
from g2dbench.method import Batch
from g2dbench.recipes.recipe import override
from g2dbench.runs import folder as runs
from g2dbench.runs.folder import load_run

pytestmark = pytest.mark.integration

workplace = finished.workplace


@pytest.mark.parametrize("step", [0, 3, 5, 7, 11])
def test_an_interrupted_run_resumes_to_the_same_weights(workplace: Path, step: int) -> None:
    whole = fit(workplace / "whole")
    out = workplace / "part"
    with pytest.raises(Stopped, match="--resume --out"):
        fit(out, progress=interrupt_at(step))
    with pytest.raises(BadCheckpoint, match="not finished"):
        load_run(out, Toys())
    resumed = fit(out, resume=True)
    assert resumed.info.digest == whole.info.digest
    left, right = weights(whole), weights(resumed)
    assert all(torch.equal(left[name], right[name]) for name in left)
    timeless = [
        [{k: v for k, v in row.items() if k not in ("images_per_s", "seconds")} for row in rows]
        for rows in (log_of(whole), log_of(resumed))
    ]
    assert timeless[0] == timeless[1]


def test_a_killed_run_resumes_from_its_last_epoch(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(workplace / "whole")

    def die(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == 6:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        fit(None, progress=die)
    resumed = fit(None, resume=True)
    assert resumed.folder == Path("runs/toy-tiny-s0")
    assert resumed.info.digest == whole.info.digest


def test_resume_refuses_another_recipe_seed_or_data(workplace: Path) -> None:
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(5))
    with pytest.raises(Misuse, match=r"optim.lr: 0.05 / 0.01"):
        fit(out, resume=True, recipe=override(recipe(), ["optim.lr=0.01"]))
    with pytest.raises(Misuse, match="seed: 0 / 1"):
        fit(out, resume=True, seed=1)
    with pytest.raises(Misuse, match="data: fake ffffffff / fake eeeeeeee"):
        fit(out, some(fingerprint="e" * 64), resume=True)
    with pytest.raises(Misuse, match="precision: fp32 / bf16"):
        fit(out, resume=True, precision="bf16")
    with pytest.raises(Misuse, match=r"optim.epochs: 3 / 4"):
        fit(out, resume=True, epochs=4)


def test_resume_refuses_a_missing_or_complete_run(workplace: Path) -> None:
    with pytest.raises(Misuse, match="no unfinished run of toy-tiny"):
        fit(None, resume=True)
    with pytest.raises(Misuse, match="no run to resume"):
        fit(workplace / "nowhere", resume=True)
    run = fit(workplace / "run")
    printed: list[str] = []
    assert fit(run.folder, resume=True, echo=printed.append).info == run.info
    assert "already complete" in printed[0]


def test_broken_checkpoints_are_refused(workplace: Path) -> None:
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(5))
    for path in (out / runs.CHECKPOINTS).iterdir():
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadCheckpoint, match="broken"):
        fit(out, resume=True)
