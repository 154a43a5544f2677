"""The packed store of a prepared data set: made once, then read at random.

`Store` opens one; it is imported when it is asked for, so that commands which only look at names
load neither pandas nor pyarrow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g2dbench.data.store.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    if name != "Store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from g2dbench.data.store.store import Store

    return Store
