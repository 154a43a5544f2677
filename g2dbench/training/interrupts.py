"""SIGINT and SIGTERM end training after the current optimizer step."""

import signal
import threading
import time
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any

REPEAT_SECONDS = 2.0
"""A second Ctrl-C or SIGTERM within this many seconds counts as the same request."""


class Interrupts(AbstractContextManager["Interrupts"]):
    """Ctrl-C or SIGTERM requests a stop after the current step; a second one stops at once.

    A repetition within `REPEAT_SECONDS` is ignored: a terminal and torchrun, or a cluster and
    torchrun, both forward the same signal. Outside the main thread, where Python allows no
    handlers, signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first_time = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore_handlers()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested:
            self.requested, self._first_time = True, now
        elif now - self._first_time > REPEAT_SECONDS:
            self._restore_handlers()
            signal.raise_signal(number)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
