"""Memory that ran out, however a library says so, and code that may take only so much of it."""

import errno
import os
import resource
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path

_TEXTS = (
    "can't allocate memory",  # torch
    "CUDA out of memory",
    "out of memory",
    "std::bad_alloc",
    "Cannot allocate memory",
    "Unable to allocate",  # numpy
    "failed to map segment",  # a library that cannot be loaded
    "can't start new thread",
    "Resource temporarily unavailable",  # the same, of C++
    "could not create a primitive",  # oneDNN
    "could not create a memory",
    "killed by signal: Killed",
    "Insufficient memory",  # OpenCV
    "malloc of size",  # pyarrow
)
"""What errors say that are no MemoryError."""

ADVICE = (
    "finished work is kept: run the same command with smaller batches "
    "(eval: --batch-size; pretrain: --set optim.micro_batch=8), fewer --workers or a smaller "
    "--size, on a larger machine, or with a higher limit (`ulimit -v`)"
)


def memory_sentence(error: BaseException) -> str | None:
    """What to tell a user whose memory ran out; None for other errors."""
    if out_of_memory(error):
        return f"the memory did not suffice; {ADVICE}"
    if isinstance(error, BrokenExecutor):
        return f"a worker process ended early, most often because memory ran out; {ADVICE}"
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, says that there is no memory left."""
    seen: BaseException | None = error
    while seen is not None:
        known = isinstance(seen, RuntimeError | OSError | ImportError | SystemError)
        if isinstance(seen, MemoryError) or (known and any(text in str(seen) for text in _TEXTS)):
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def bounded_memory(more: int) -> Iterator[None]:
    """Let this process take at most `more` bytes on top of what it has, then it is a MemoryError.

    Without /proc nothing is bounded.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        yield
        return
    limits = [pages * os.sysconf("SC_PAGE_SIZE") + more]
    limits += [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
