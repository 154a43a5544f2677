"""Monitoring changes no bit of a training, survives an interruption, and writes sheets."""

from collections.abc import Callable

import pytest
from PIL import Image
from support.small_training import interrupt_at
from support.training.monitored import MODEL, recipe, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from g2dbench.errors import Stopped
from g2dbench.runs.folder import LOG_FILE, RunFolder
from g2dbench.training.monitoring import monitor
from g2dbench.training.monitoring.monitor import STEPS_FILE, Monitor, MonitorSettings

pytestmark = pytest.mark.integration


def test_a_monitored_training_ends_in_the_same_bits(
    fit: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monitored = fit(
        "monitored", monitoring=MonitorSettings(("tensorboard",), every=1, sheet_every=3)
    )
    with monkeypatch.context() as blind:
        for name in ("start", "step", "epoch"):
            blind.setattr(Monitor, name, lambda *_: None)
        plain = fit("plain")
    assert not (plain.folder / STEPS_FILE).exists()
    assert monitored.info.digest == plain.info.digest
    assert rows(monitored, LOG_FILE) == rows(plain, LOG_FILE)
    found = rows(monitored, STEPS_FILE)
    steps = int(rows(monitored, LOG_FILE)[-1]["step"])
    assert [int(row["step"]) for row in found] == list(range(1, steps + 1))
    assert {row["epoch"] for row in found} == {"1", "2"}
    sheets = sorted(path.name for path in (monitored.folder / monitor.SHEETS).iterdir())
    assert sheets == [f"step-{step:06d}.png" for step in range(3, steps + 1, 3)]
    for name in ("vla", "lr", "batch_r1", "batch_r5", "batch_r10", "attention_entropy",
                 "mask_share", "mask_parts", "mask_overlap", "mask_overlap_chance",
                 "decoder_dice"):  # fmt: skip
        assert all(float(row[name]) >= 0 for row in found), name
    before, after = found[3], found[4]
    assert before["gradient_share_pa"] == ""
    shares = float(after["gradient_share_vla"]), float(after["gradient_share_pa"])
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    events = EventAccumulator(str(monitored.folder / "tensorboard")).Reload()
    logged = events.Scalars("step/gradient_share_pa")
    assert [(e.step, e.value) for e in logged] == [
        (int(row["step"]), pytest.approx(float(row["gradient_share_pa"]))) for row in found[4:]
    ]
    assert [e.step for e in events.Scalars("epoch/r10")] == [steps // 2, steps]
    assert [e.step for e in events.Images("masks")] == list(range(3, steps + 1, 3))


def test_an_interrupted_training_has_the_logs_of_an_uninterrupted_one(
    fit: Callable[..., RunFolder],
) -> None:
    flat = recipe(attention={"stride": 16, "scale": 1e-4})
    monitoring = MonitorSettings(every=2)
    whole_printed: list[str] = []
    whole = fit("whole", recipe=flat, monitoring=monitoring, echo=whole_printed.append)
    printed: list[str] = []
    with pytest.raises(Stopped):
        fit(
            "part",
            recipe=flat,
            monitoring=monitoring,
            echo=printed.append,
            progress=interrupt_at(6),
        )
    resumed = fit("part", recipe=flat, monitoring=monitoring, echo=printed.append, resume=True)
    assert resumed.info.digest == whole.info.digest
    assert rows(resumed, STEPS_FILE) == rows(whole, STEPS_FILE)
    expected = [line for line in whole_printed if line.startswith("warning: ")]
    assert sum("attention is all but uniform" in line for line in expected) == 1
    assert [line for line in printed if line.startswith("warning: ")] == expected


def test_a_method_without_maps_is_monitored_without_sheets(fit: Callable[..., RunFolder]) -> None:
    model = {k: MODEL[k] for k in ("width", "image", "text")}
    chosen = recipe("convirt").model_copy(update={"model": model})
    run = fit("convirt", recipe=chosen, monitoring=MonitorSettings(every=3), epochs=1)
    assert not (run.folder / monitor.SHEETS).exists()
    found = rows(run, STEPS_FILE)
    assert {"contrastive", "batch_r1", "lr"} <= set(found[0])
    assert not any(name.startswith(("gradient", "mask")) for name in found[0])


def test_a_contact_sheet_in_the_run_folder_has_six_images(
    fit: Callable[..., RunFolder],
) -> None:
    run = fit("run", epochs=1, monitoring=MonitorSettings(every=0))
    (path,) = (run.folder / monitor.SHEETS).iterdir()
    with Image.open(path) as picture:
        assert picture.width < 1000
        assert picture.height < 1400
        assert len(picture.convert("L").getcolors(256) or ()) > 50
