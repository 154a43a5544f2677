"""Experiment trackers: TensorBoard, W&B and whatever else accelerate supports.

A tracker that fails during training is dropped with a warning, and the run continues: log.csv and
steps.csv hold the same values.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from PIL import Image

from g2dbench.errors import Misuse
from g2dbench.registry import unknown_name

PROJECT = "g2dbench"
_PACKAGES = {"comet_ml": "comet-ml"}  # if the package is not named as the tracker
_PICTURES: dict[str, dict[str, Any]] = {"tensorboard": {"dataformats": "NHWC"}, "wandb": {}}


def check(names: tuple[str, ...]) -> None:
    """Raise Misuse for a tracker that accelerate does not know, or whose package is missing."""
    known = sorted(LOGGER_TYPE_TO_CLASS)
    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in known:
            raise Misuse(unknown_name("tracker", name, known))
        if name not in installed:
            package = _PACKAGES.get(name, name)
            raise Misuse(
                f"--track {name} needs a package that is not installed: pip install {package}"
            )


class Trackers:
    """The trackers of one run."""

    def __init__(self, names: tuple[str, ...], echo: Callable[[str], object]) -> None:
        check(names)
        self._names, self._echo = tuple(dict.fromkeys(names)), echo
        self._running: dict[str, Any] = {}

    def start(self, folder: Path, name: str, config: Mapping[str, Any], step: int) -> None:
        """Start each tracker with the run's name and settings, and drop its values from `step` on.

        Raises Misuse if a tracker does not start; nothing has been trained yet.
        """
        for kind in self._names:
            try:
                tracker = _make(kind, folder, name, step)
                tracker.start()
                tracker.store_init_configuration(dict(config))
            except Exception as error:  # each package fails in its own way
                raise Misuse(f"--track {kind} cannot start: {error}") from error
            self._running[kind] = tracker

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers by name."""
        self._each(lambda kind, tracker: tracker.log(dict(values), step=step))

    def log_image(self, name: str, picture: Image.Image, step: int) -> None:
        """Log a picture, to the trackers that accept one."""
        pixels = np.asarray(picture)[None]

        def log_to(kind: str, tracker: Any) -> None:
            if kind in _PICTURES:
                tracker.log_images({name: pixels}, step=step, **_PICTURES[kind])

        self._each(log_to)

    def close(self) -> None:
        """Flush and close all trackers."""
        self._each(lambda kind, tracker: tracker.finish())
        self._running = {}

    def _each(self, action: Callable[[str, Any], object]) -> None:
        for kind, tracker in list(self._running.items()):
            try:
                action(kind, tracker)
            except Exception as error:  # no network, quota or disk of a tracker may end the run
                del self._running[kind]
                self._echo(
                    f"warning: {kind} failed and is not used any more ({error}); log.csv and "
                    "steps.csv continue"
                )


def _make(kind: str, folder: Path, name: str, step: int) -> Any:
    """accelerate's tracker of this kind; trackers that write files do so in the run's folder."""
    if kind == "tensorboard":
        return LOGGER_TYPE_TO_CLASS[kind](kind, folder, purge_step=step)
    options = {"wandb": {"name": name, "dir": str(folder)}}.get(kind, {})
    if LOGGER_TYPE_TO_CLASS[kind].requires_logging_directory:
        options["logging_dir"] = str(folder)
    return LOGGER_TYPE_TO_CLASS[kind](PROJECT, **options)
