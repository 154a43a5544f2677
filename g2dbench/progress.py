"""Progress display of long work."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Wraps an iterable to show progress: bars on the command line, `quiet` in tests."""

    def __call__(
        self, items: Iterable[Item], title: str, total: int | None = None
    ) -> Iterable[Item]:
        """Yield the items unchanged and show rate and remaining time."""
        ...


def quiet(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """Progress that shows nothing."""
    return items
