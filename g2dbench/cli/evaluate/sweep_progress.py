"""The progress of a sweep: one bar in a terminal, otherwise a line now and then."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from g2dbench.cli.console import console
from g2dbench.cli.evaluate.plan_report import duration

if TYPE_CHECKING:
    from g2dbench.evaluation.cell_spec import CellSpec
    from g2dbench.evaluation.outcome import Outcome
    from g2dbench.evaluation.sweep.engine import Ended, Event

LINE_SECONDS = 15.0
"""Time between two lines where there is no terminal."""


class SweepProgress:
    """Counts the cells of a sweep; expected: seconds for all of them, None if it is not known."""

    def __init__(self, cells: int, expected: float | None = None) -> None:
        self._cells, self._expected = cells, expected
        self._began = time.monotonic()
        self._running: set[CellSpec] = set()
        self._status: Counter[str] = Counter()
        self._failures: dict[str, list[str]] = {}

    def follow(self, events: "Iterable[Event]") -> "Iterator[Outcome]":
        """Show the progress of the events; yields the outcomes of the cells that end.

        When all have ended, prints what has failed, one line for each reason.
        """
        from g2dbench.evaluation.sweep.engine import Ended, Notice, Started

        columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
        terminal = console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=not terminal) as bar:
            task = bar.add_task(self.line(), total=self._cells)
            printed = time.monotonic()
            for event in events:
                if isinstance(event, Notice):
                    console.print(f"[yellow]note: {escape(event.text)}[/]", soft_wrap=True)
                elif isinstance(event, Started):
                    self._running.add(event.spec)
                elif isinstance(event, Ended):
                    self._end(event)
                    yield event.outcome
                bar.update(task, completed=self.ended, description=self.line())
                last = self.ended + len(self._running) == self._cells  # no other cell starts
                due = time.monotonic() - printed > LINE_SECONDS and (
                    isinstance(event, Started) or last
                )
                if due and not terminal and self.ended < self._cells:
                    console.print(self.line(), soft_wrap=True)
                    printed = time.monotonic()
        self._print_failures()

    @property
    def ended(self) -> int:
        """The number of cells that have ended."""
        return self._status.total()

    def line(self) -> str:
        """Cells done, failed and running, and the time left."""
        failed = self._status["failed"]
        text = f"{self.ended}/{self._cells} cells, {failed} failed, {len(self._running)} running"
        left = self._time_left()
        return text if left is None else f"{text}, about {duration(left)} left"

    def _time_left(self) -> float | None:
        """From the cells that have ended; before there are any, from the plan."""
        seconds = time.monotonic() - self._began
        if self.ended:
            return seconds / self.ended * (self._cells - self.ended)
        return None if self._expected is None else max(0.0, self._expected - seconds)

    def _end(self, event: "Ended") -> None:
        self._running.discard(event.spec)
        result = event.outcome.result
        self._status[result.status] += 1
        if result.status == "failed":
            self._failures.setdefault(result.reason or "", []).append(event.spec.title)

    def _print_failures(self) -> None:
        for reason, titles in self._failures.items():
            others = f" and {len(titles) - 1} others" if len(titles) > 1 else ""
            text = f"failed: {titles[0]}{others}: {reason}"
            console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)
