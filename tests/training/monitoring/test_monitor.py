"""Monitoring changes no bit of a training, survives an interruption, and prints warnings."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.small_training import machine_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from g2dbench.cards import MethodCard
from g2dbench.data.prepare import require_store
from g2dbench.errors import Misuse, Stopped
from g2dbench.method import Batch, Method
from g2dbench.methods.g2d.model import G2D
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.runs.folder import LOG_FILE, RunFolder
from g2dbench.training import fit as train
from g2dbench.training.monitoring import held_out, monitor, trackers, warnings
from g2dbench.training.monitoring.gradient_shares import gradient_shares, state_restored
from g2dbench.training.monitoring.monitor import STEPS_FILE, Monitor, MonitorSettings

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
TIMED = {"images_per_s", "seconds", "memory_mib"}
MODEL = {
    "width": 8,
    "image": {"encoder": "mobilenet_v2", "size": 32},
    "text": {"vocab_size": 120, "layers": 1, "hidden": 16, "heads": 2, "max_length": 32},
    "attention": {"stride": 16},
    "decoder": {"channels": [16, 16, 8, 8, 8]},
    "pixel": {"start": 4},
}


def recipe(method: str = "g2d", **model: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "micro",
            "method": method,
            "data": {"name": "synthetic", "size": 64},
            "model": {**MODEL, **model},
            "optim": {"lr": 1e-3, "epochs": 2, "batch_size": 16, "warmup_steps": 1},
        }
    )


@pytest.fixture
def fit(small_store: Path, tmp_path: Path) -> Callable[..., RunFolder]:
    data = require_store("synthetic", None, small_store, size=64, registry=Registry())

    def run(name: str, **changes: Any) -> RunFolder:
        settings: dict[str, Any] = {"seed": 0, "echo": lambda _: None}
        chosen = changes.pop("recipe", None) or recipe()
        machine = machine_of(changes)
        return train.fit(chosen, data, tmp_path / name, machine=machine, **settings | changes)

    return run


def rows(run: RunFolder, name: str) -> list[dict[str, str]]:
    with (run.folder / name).open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def interrupt_at(step: int) -> Callable[..., Iterator[Batch]]:
    def progress(items: Any, title: str, total: int | None = None) -> Iterator[Batch]:
        for batch in items:
            if batch.step == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    return progress


def build(name: str = "g2d", **changes: Any) -> Method:
    from g2dbench.pretrained.tokenizer import train_wordpiece

    tokenizer = train_wordpiece(["the heart is large", "no effusion", "lungs are clear"], 60)
    module = Registry().find(MethodCard, name).load()
    table = {k: v for k, v in MODEL.items() if name == "g2d" or k in ("width", "image", "text")}
    method: Method = module.build({**table, **changes}, tokenizer, 0)
    return method


def batch(method: Method, step: int = 9) -> Batch:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    reports = ["the heart is large", "no effusion", "lungs are clear"]
    return Batch(images, *method.tokenize(reports), ("a", "b", "c"), step)


def test_a_monitored_training_ends_in_the_same_bits(
    fit: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = fit("looked", monitoring=MonitorSettings(("tensorboard",), every=1, sheet_every=3))
    with monkeypatch.context() as blind:
        for name in ("start", "step", "epoch"):
            blind.setattr(Monitor, name, lambda *_: None)
        plain = fit("plain")
    assert not (plain.folder / STEPS_FILE).exists()
    assert looked.info.digest == plain.info.digest
    assert rows(looked, LOG_FILE) == rows(plain, LOG_FILE)
    found = rows(looked, STEPS_FILE)
    steps = int(rows(looked, LOG_FILE)[-1]["step"])
    assert [int(row["step"]) for row in found] == list(range(1, steps + 1))
    assert {row["epoch"] for row in found} == {"1", "2"}
    sheets = sorted(path.name for path in (looked.folder / monitor.SHEETS).iterdir())
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
    events = EventAccumulator(str(looked.folder / "tensorboard")).Reload()
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
    whole_said: list[str] = []
    whole = fit("whole", recipe=flat, monitoring=monitoring, echo=whole_said.append)
    said: list[str] = []
    with pytest.raises(Stopped):
        fit("part", recipe=flat, monitoring=monitoring, echo=said.append, progress=interrupt_at(6))
    resumed = fit("part", recipe=flat, monitoring=monitoring, echo=said.append, resume=True)
    assert resumed.info.digest == whole.info.digest
    assert rows(resumed, STEPS_FILE) == rows(whole, STEPS_FILE)
    told = [line for line in whole_said if line.startswith("warning: ")]
    assert sum("attention is all but uniform" in line for line in told) == 1
    assert [line for line in said if line.startswith("warning: ")] == told


def test_a_method_without_maps_is_monitored_without_sheets(fit: Callable[..., RunFolder]) -> None:
    model = {k: MODEL[k] for k in ("width", "image", "text")}
    chosen = recipe("convirt").model_copy(update={"model": model})
    run = fit("convirt", recipe=chosen, monitoring=MonitorSettings(every=3), epochs=1)
    assert not (run.folder / monitor.SHEETS).exists()
    found = rows(run, STEPS_FILE)
    assert {"contrastive", "batch_r1", "lr"} <= set(found[0])
    assert not any(name.startswith(("gradient", "mask")) for name in found[0])


def test_gradient_shares_are_those_of_two_backward_passes() -> None:
    method = build(text={**MODEL["text"], "dropout": 0.0}).train()
    found = gradient_shares(method, batch(method), _plain)
    norms = {}
    for name in ("vla", "pa"):
        method.zero_grad()
        method.losses(batch(method))[name].backward()
        encoder = [p.grad for n, p in method.named_parameters() if n.startswith("unet.encoder.")]
        norms[name] = float(torch.cat([g.flatten() for g in encoder if g is not None]).norm())
    whole = sum(norms.values())
    assert found == {
        f"gradient_share_{name}": pytest.approx(norm / whole, rel=1e-4)
        for name, norm in norms.items()
    }
    scaled = gradient_shares(method, batch(method), _plain, scale=1024.0)
    assert scaled == {name: pytest.approx(value, rel=1e-4) for name, value in found.items()}
    assert gradient_shares(method, batch(method, step=0), _plain) == {}


def test_gradient_shares_do_not_change_the_training() -> None:
    method = build().train()
    method.text.encoder.eval()
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    modes = [part.training for part in method.modules()]
    state = torch.random.get_rng_state()
    assert gradient_shares(method, batch(method), _plain)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert [part.training for part in method.modules()] == modes
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(weight.grad is None for weight in method.parameters())


class Restless(nn.Module):
    """Changes a weight in place and replaces a buffer, as momentum queues and prototypes do."""

    queue: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.rand(3, 4))
        self.register_buffer("queue", torch.zeros(2))

    def forward(self) -> None:
        with torch.no_grad():
            self.prototypes.div_(self.prototypes.norm(dim=1, keepdim=True))
        self.queue = self.queue + 1
        torch.rand(5)


def test_what_a_forward_pass_changes_is_restored_even_after_an_error() -> None:
    module = Restless().eval()
    weight, queue = module.prototypes.detach().clone(), module.queue

    def fail() -> None:
        with state_restored(module, CPU):
            module.train()()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(module.prototypes, weight)
    assert module.queue is queue
    assert queue.tolist() == [0, 0]
    assert not module.training


def test_evaluation_restores_the_mode_of_every_submodule() -> None:
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    module[1].eval()
    with held_out.eval_mode(module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
    assert [part.training for part in module] == [True, False]


def told(figures: dict[str, float]) -> list[str]:
    """The warnings at the first check of a G2D training."""
    return warnings.WarningLog(G2D.warning_rules).update(figures)


def test_each_rule_applies_at_its_limit_and_says_what_to_try() -> None:
    guess = {"r10": 0.055, "chance_r10": 0.05, "pool": 200.0}
    assert "no better than guessing" in told(guess)[0]
    assert told({**guess, "r10": 0.3}) == []
    assert told({"r10": 1.0, "chance_r10": 1.0, "pool": 10.0}) == []
    cases = {
        "attention_entropy": [(0.98, "all but uniform"), (0.01, "single pixel"), (0.5, "")],
        "mask_empty": [(0.25, "25% of the pseudo masks are empty"), (0.0, "")],
        "mask_full": [(1.0, "100% of the pseudo masks cover the whole"), (0.05, "")],
        "mask_overlap": [(0.97, "all but the same"), (0.5, "")],
        "gradient_share_pa": [(0.95, "95% of the gradient at the encoder"), (0.6, "")],
    }
    for figure, values in cases.items():
        for value, words in values:
            found = told({figure: value})
            assert len(found) == bool(words)
            assert all(words in text and "ry " in text for text in found)
    rules = (*warnings.RULES, *G2D.warning_rules)
    assert {rule.monitor for rule in rules} == {"r10", *cases}


def test_a_warning_is_printed_when_it_appears_and_when_it_is_resolved() -> None:
    log = warnings.WarningLog(G2D.warning_rules)
    values = [0.5, 0.98, 0.99, 0.5, 0.98, 0.5, 0.5, 0.5, 0.99]
    said = [log.update({"attention_entropy": value}) for value in values]
    assert [len(lines) for lines in said] == [0, 1, 0, 0, 0, 0, 1, 0, 1]
    assert said[1][0].startswith("warning: the attention is all but uniform (0.980")
    assert said[6] == [
        "resolved: the attention is no longer uniform (0.500 of the maximum entropy)"
    ]
    assert log.update({"mask_share": 0.1}) == []


def test_a_method_without_own_rules_has_the_common_ones() -> None:
    assert warnings.WarningLog(()).update({"attention_entropy": 0.99}) == []


def order(said: list[str]) -> list[str]:
    told = ["uniform" if "all but uniform" in line else line[:7] for line in said]
    return [word for word in told if word.startswith(("uniform", "epoch"))]


def test_warnings_wait_for_the_warm_up(fit: Callable[..., RunFolder]) -> None:
    flat = recipe(attention={"stride": 16, "scale": 1e-4})
    said: list[str] = []
    fit("flat", recipe=flat, monitoring=MonitorSettings(every=3), echo=said.append)
    # Checked from a quarter of the steps on, which is before the first of two epochs ends.
    assert order(said) == ["uniform", "epoch 1", "epoch 2"]
    late = flat.model_copy(update={"optim": flat.optim.model_copy(update={"warmup_steps": 9})})
    said.clear()
    fit("late", recipe=late, monitoring=MonitorSettings(every=3), echo=said.append)
    assert order(said) == ["epoch 1", "uniform", "epoch 2"]


def test_unknown_and_missing_trackers_are_refused_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Misuse, match="no tracker 'tensorbord': did you mean 'tensorboard'"):
        MonitorSettings(("tensorbord",))
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: [])
    with pytest.raises(Misuse, match="pip install comet-ml"):
        MonitorSettings(("comet_ml",))
    with pytest.raises(Misuse, match="pip install tensorboard"):
        MonitorSettings(("tensorboard",))


class Broken:
    """A tracker that loses its network after the first values."""

    requires_logging_directory = False
    calls = 0

    def __init__(self, project: str, **options: Any) -> None:
        assert (project, options["name"]) == ("g2dbench", "micro@synthetic:120-s0") or options

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        assert values["optim.lr"] == 1e-3
        assert all(isinstance(value, str | int | float) for value in values.values())

    def log(self, values: dict[str, float], step: int) -> None:
        Broken.calls += 1
        if Broken.calls > 1:
            raise ConnectionError("no route to host")

    def log_images(self, values: dict[str, Any], step: int) -> None: ...

    def finish(self) -> None: ...


def test_a_failing_tracker_gives_a_warning_and_does_not_end_the_run(
    fit: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["wandb"])
    monkeypatch.setitem(trackers.LOGGER_TYPE_TO_CLASS, "wandb", Broken)
    said: list[str] = []
    run = fit("run", monitoring=MonitorSettings(("wandb",), every=2), epochs=1, echo=said.append)
    assert run.info.status == "complete"
    assert Broken.calls == 2
    (line,) = [line for line in said if "wandb" in line]
    assert "not used any more (no route to host)" in line
    monkeypatch.setattr(Broken, "start", lambda self: 1 / 0)
    with pytest.raises(Misuse, match="--track wandb cannot start: division by zero"):
        fit("other", monitoring=MonitorSettings(("wandb",)), epochs=1)


def test_embeddings_that_are_not_finite_stop_the_training() -> None:
    rows = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])
    groups = np.array([["a"], ["b"]], dtype=object)
    with pytest.raises(Stopped, match=r"not finite.*lower --set optim.lr"):
        held_out.mean_recalls(rows, rows, groups)


def test_chance_is_that_of_random_rankings() -> None:
    groups = np.array([[f"s{i}", f"r{i % 5}"] for i in range(30)], dtype=object)
    rng = np.random.default_rng(0)
    same = groups[:, None, 1] == groups[None, :, 1]
    drawn = [rng.permutation(30)[:4] for _ in range(4000)]
    found = np.mean([same[row][picked].any() for picked in drawn for row in range(30)])
    assert held_out.chance_recall(groups, 4) == pytest.approx(found, abs=0.01)
    assert held_out.chance_recall(groups[:3], 10) == 1.0


def test_a_contact_sheet_in_the_run_folder_has_six_images(
    fit: Callable[..., RunFolder],
) -> None:
    run = fit("run", epochs=1, monitoring=MonitorSettings(every=0))
    (path,) = (run.folder / monitor.SHEETS).iterdir()
    with Image.open(path) as picture:
        assert picture.width < 1000
        assert picture.height < 1400
        assert len(picture.convert("L").getcolors(256) or ()) > 50


def _plain() -> Any:
    from contextlib import nullcontext

    return nullcontext()
