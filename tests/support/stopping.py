"""Progress that stops a preparation, or notes what it had left to do."""

from collections.abc import Callable, Iterable


class Stop(Exception):
    """Ends a preparation in the middle, as Ctrl-C does."""


def after(count: int) -> Callable:
    """Progress that stops when so many images were packed."""

    def progress(items: Iterable, title: str, total: int | None = None) -> Iterable:
        for done, item in enumerate(items):
            if title.startswith("prepare") and done == count:
                raise Stop
            yield item

    return progress


class Watch:
    """Progress that notes how many images a preparation still had to read."""

    def __call__(self, items: Iterable, title: str, total: int | None = None) -> Iterable:
        self.left = total
        return items
