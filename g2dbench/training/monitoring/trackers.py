"""Where else a training's figures go: TensorBoard, W&B and what else accelerate knows.

A tracker is a guest: one that fails while training is left out with a sentence, and the run goes
on, for log.csv and steps.csv hold the same figures.
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
_PACKAGES = {"comet_ml": "comet-ml"}  # where the package is not called like the tracker
_PICTURES: dict[str, dict[str, Any]] = {"tensorboard": {"dataformats": "NHWC"}, "wandb": {}}


def check(names: tuple[str, ...]) -> None:
    """Misuse for a name that accelerate does not know, and for one whose package is missing."""
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
        """Open each with the run's name and settings; what it has from `step` on comes again.

        Raises Misuse where a tracker does not start: nothing was trained yet.
        """
        for kind in self._names:
            try:
                tracker = _make(kind, folder, name, step)
                tracker.start()
                tracker.store_init_configuration(dict(config))
            except Exception as error:  # each package fails in its own way
                raise Misuse(f"--track {kind} cannot start: {error}") from error
            self._running[kind] = tracker

    def log(self, figures: Mapping[str, Any], step: int) -> None:
        """Hand on numbers by name."""
        self._each(lambda kind, tracker: tracker.log(dict(figures), step=step))

    def show(self, name: str, picture: Image.Image, step: int) -> None:
        """Hand on a picture, to those that take one."""
        pixels = np.asarray(picture)[None]

        def hand(kind: str, tracker: Any) -> None:
            if kind in _PICTURES:
                tracker.log_images({name: pixels}, step=step, **_PICTURES[kind])

        self._each(hand)

    def close(self) -> None:
        """Let each write out what it still holds."""
        self._each(lambda kind, tracker: tracker.finish())
        self._running = {}

    def _each(self, action: Callable[[str, Any], object]) -> None:
        for kind, tracker in list(self._running.items()):
            try:
                action(kind, tracker)
            except Exception as error:  # a network, a quota, a disk: none is worth the run
                del self._running[kind]
                self._echo(
                    f"warning: {kind} failed and is left out from here on ({error}); log.csv and "
                    "steps.csv go on"
                )


def _make(kind: str, folder: Path, name: str, step: int) -> Any:
    """accelerate's tracker of a kind; those that keep files keep them in the run's folder."""
    if kind == "tensorboard":
        return LOGGER_TYPE_TO_CLASS[kind](kind, folder, purge_step=step)
    options = {"wandb": {"name": name, "dir": str(folder)}}.get(kind, {})
    if LOGGER_TYPE_TO_CLASS[kind].requires_logging_directory:
        options["logging_dir"] = str(folder)
    return LOGGER_TYPE_TO_CLASS[kind](PROJECT, **options)
