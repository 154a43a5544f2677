"""Training: the same seed gives the same bits; what is not finite, full or missing is reported."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_training import Toys, fit, log_of, recipe, some
from support.training import runs as finished
from support.training.runs import newest, weights

from g2dbench.errors import BadData, Misuse, Stopped
from g2dbench.method import Batch
from g2dbench.pretrained.weights import digest
from g2dbench.runs.folder import load_run, newest_run

pytestmark = pytest.mark.integration

workplace = finished.workplace


def test_a_run_is_complete_and_loads_as_the_trained_model(workplace: Path) -> None:
    printed: list[str] = []
    run = fit(None, echo=printed.append)
    assert run.folder == Path("runs/toy-tiny-s0")
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        ".lock", "run.json", "model.safetensors", "tokenizer.json", "log.csv", "checkpoints",
    }  # fmt: skip
    model = load_run(run.folder, Toys())
    assert not model.training
    assert (model.identity.label, model.identity.seed) == ("toy-tiny", 0)
    assert model.identity.digest == run.info.digest
    assert model.card.trained_on == ("fake",)
    assert model.card.capabilities == ("embeds",)
    assert digest(model.toy) == run.info.digest  # type: ignore[arg-type]
    assert sum(line.startswith("epoch ") for line in printed) == 3
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


def test_a_checkpoint_loads_without_executing_code(workplace: Path) -> None:
    run = fit(None)
    checkpoint = torch.load(newest(run.folder), weights_only=True)
    assert checkpoint["epoch"] == 3


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
    checkpoint = torch.load(newest(workplace / "run"), weights_only=True)
    assert checkpoint["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in checkpoint["method"].values())


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
    assert names == {".lock", "run.json", "tokenizer.json", "log.csv", "checkpoints"}
    assert fit(workplace / "run", resume=True).info.digest == whole.info.digest


def test_warnings_are_printed_during_training(workplace: Path) -> None:
    printed: list[str] = []
    fit(None, epochs=1, echo=printed.append)
    assert any("attention is all but uniform" in line for line in printed)


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
