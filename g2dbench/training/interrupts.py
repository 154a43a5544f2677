"""SIGINT and SIGTERM end training after the current optimizer step."""

import signal
import threading
import time
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any

REPEAT = 2.0
"""Seconds within which a second Ctrl-C or SIGTERM is taken for an echo of the first."""


class Interrupts(AbstractContextManager["Interrupts"]):
    """Ctrl-C and SIGTERM as a wish that the loop grants after its step; twice means at once.

    A repetition within `REPEAT` seconds is the same wish: a terminal and torchrun, or a cluster
    and torchrun, both pass one on. Outside the main thread, where Python allows no handlers,
    signals keep their usual effect.
    """

    def __init__(self) -> None:
        self.asked = False
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.asked:
            self.asked, self._first = True, now
        elif now - self._first > REPEAT:
            self._put_back()
            signal.raise_signal(number)

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
