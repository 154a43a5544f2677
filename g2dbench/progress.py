"""Progress of long work: the command line shows bars, tests pass `quiet`."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """How long work reports itself; the command line draws bars, tests pass `quiet`."""

    def __call__(
        self, items: Iterable[Item], title: str, total: int | None = None
    ) -> Iterable[Item]:
        """Yield the items unchanged, showing rate and time left."""
        ...


def quiet(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """Progress that shows nothing."""
    return items
