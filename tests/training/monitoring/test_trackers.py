"""Experiment trackers: unknown, missing and failing ones."""

from collections.abc import Callable
from typing import Any

import pytest

from g2dbench.errors import Misuse
from g2dbench.runs.folder import RunFolder
from g2dbench.training.monitoring import trackers
from g2dbench.training.monitoring.monitor import MonitorSettings

pytestmark = pytest.mark.integration


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
    printed: list[str] = []
    run = fit("run", monitoring=MonitorSettings(("wandb",), every=2), epochs=1, echo=printed.append)
    assert run.info.status == "complete"
    assert Broken.calls == 2
    (line,) = [line for line in printed if "wandb" in line]
    assert "not used any more (no route to host)" in line
    monkeypatch.setattr(Broken, "start", lambda self: 1 / 0)
    with pytest.raises(Misuse, match="--track wandb cannot start: division by zero"):
        fit("other", monitoring=MonitorSettings(("wandb",)), epochs=1)
