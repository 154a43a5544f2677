"""Training: the same seed gives the same bits, also after an interruption; errors are clear."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_training import Toys, build, fit, interrupt_at, log_of, recipe, some
from torch import Tensor

from g2dbench.errors import BadCheckpoint, BadData, Misuse, Stopped
from g2dbench.method import Batch
from g2dbench.pretrained.weights import digest
from g2dbench.recipes.recipe import override
from g2dbench.runs import folder as runs
from g2dbench.runs.folder import RunFolder, load_run, newest_run
from g2dbench.training.optimizer import parameter_groups

pytestmark = pytest.mark.integration


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(run: RunFolder) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(run.folder / runs.WEIGHTS_FILE)


def newest(folder: Path) -> Path:
    return max((folder / runs.CHECKPOINTS).glob("step-*.pt"))


def test_a_run_is_complete_and_loads_as_the_trained_model(workplace: Path) -> None:
    said: list[str] = []
    run = fit(None, echo=said.append)
    assert run.folder == Path("runs/toy-tiny-s0")
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"run.json", "model.safetensors", "tokenizer.json", "log.csv", "checkpoints"}
    model = load_run(run.folder, Toys())
    assert not model.training
    assert (model.identity.label, model.identity.seed) == ("toy-tiny", 0)
    assert model.identity.digest == run.info.digest
    assert model.card.trained_on == ("fake",)
    assert model.card.capabilities == ("embeds",)
    assert digest(model.toy) == run.info.digest  # type: ignore[arg-type]
    assert sum(line.startswith("epoch ") for line in said) == 3
    assert newest_run(Path("runs")) == run.folder


def test_the_log_has_a_row_per_epoch_with_held_out_values(workplace: Path) -> None:
    rows = log_of(fit(None))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert rows[0]["pa"] == ""
    assert float(rows[1]["pa"]) > 0
    assert float(rows[2]["lr"]) < float(rows[1]["lr"])
    for name in ("vla", "r1", "r10", "chance_r10", "attention_entropy", "images_per_s"):
        assert all(float(row[name]) >= 0 for row in rows)
    assert float(rows[0]["pool"]) == 10


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(workplace: Path) -> None:
    first = fit(None)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    second, other = fit(None), fit(None, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert second.folder.name == "toy-tiny-s0-2"
    assert second.info.digest == first.info.digest
    assert other.info.digest != first.info.digest


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


def test_a_checkpoint_loads_without_executing_code(workplace: Path) -> None:
    run = fit(None)
    kept = torch.load(newest(run.folder), weights_only=True)
    assert kept["epoch"] == 3


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
    said: list[str] = []
    assert fit(run.folder, resume=True, echo=said.append).info == run.info
    assert "already complete" in said[0]


def test_broken_checkpoints_are_refused(workplace: Path) -> None:
    out = workplace / "run"
    with pytest.raises(Stopped):
        fit(out, progress=interrupt_at(5))
    for path in (out / runs.CHECKPOINTS).iterdir():
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadCheckpoint, match="broken"):
        fit(out, resume=True)


def test_a_run_folder_that_is_not_empty_is_refused(workplace: Path) -> None:
    run = fit(workplace / "run")
    with pytest.raises(Misuse, match="already holds a run"):
        fit(run.folder)
    (workplace / "full").mkdir()
    (workplace / "full" / "thesis.tex").touch()
    with pytest.raises(Misuse, match="holds other files"):
        fit(workplace / "full")
    with pytest.raises(Misuse, match="cannot be created"):
        fit(workplace / "full" / "thesis.tex")


def test_changed_recipes_and_other_data_get_labels_of_their_own(workplace: Path) -> None:
    assert fit(None, epochs=3).label == "toy-tiny"
    one = fit(None, epochs=1)
    assert one.label.startswith("toy-tiny+")
    assert one.folder.name == f"{one.label}-s0"
    elsewhere = recipe().model_copy(update={"data": recipe().data.model_copy(update={"name": "x"})})
    assert fit(None, recipe=elsewhere, epochs=1).label.endswith("@fake")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_epoch(workplace: Path) -> None:
    with pytest.raises(Stopped, match=r"not finite in epoch 2, batch 2 \(vla nan\).*optim.lr"):
        fit(workplace / "run", recipe=recipe(blow_up_at=5))
    kept = torch.load(newest(workplace / "run"), weights_only=True)
    assert kept["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in kept["method"].values())


def test_a_full_disk_leaves_the_last_checkpoint_intact(workplace: Path) -> None:
    whole = fit(workplace / "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
            yield batch

    try:
        with pytest.raises(Stopped, match=r"cannot be written .*free disk space.*--resume"):
            fit(workplace / "run", progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = {path.name for path in (workplace / "run").iterdir()}
    assert names == {"run.json", "tokenizer.json", "log.csv", "checkpoints"}
    assert fit(workplace / "run", resume=True).info.digest == whole.info.digest


def test_warnings_are_printed_during_training(workplace: Path) -> None:
    said: list[str] = []
    fit(None, epochs=1, echo=said.append)
    assert any("attention is all but uniform" in line for line in said)


def test_training_works_without_held_out_pairs(workplace: Path) -> None:
    rows = log_of(fit(None, some(valid_count=0), epochs=1))
    assert "r10" not in rows[0]


def test_no_reports_and_an_unknown_method_are_refused_before_anything_is_written(
    workplace: Path,
) -> None:
    with pytest.raises(BadData, match="has no train images"):
        fit(None, some(train_count=0))
    with pytest.raises(Misuse, match="no method 'g2'"):
        fit(None, recipe=recipe().model_copy(update={"method": "g2"}))
    assert not (workplace / "runs").exists()


def test_mixed_precision_trains_and_settings_may_change_in_one_process(workplace: Path) -> None:
    low = fit(None, precision="bf16", epochs=1)
    full = fit(None, epochs=1)
    assert low.info.digest != full.info.digest
    assert {value.dtype for value in weights(low).values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("file", "content", "said"),
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
    workplace: Path, file: str, content: bytes | None, said: str
) -> None:
    run = fit(None, epochs=1)
    path = run.folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=said):
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


def test_weight_decay_spares_biases_and_norms() -> None:
    toy = build({}, list(range(20)), 0)
    decayed, spared = parameter_groups(toy, 0.1)
    assert {tuple(w.shape) for w in decayed["params"]} == {(8, 3, 8, 8), (20, 8)}
    assert all(w.ndim == 1 for w in spared["params"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_importing_the_recipes_loads_no_torch() -> None:
    code = "import sys, g2dbench.recipes.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
