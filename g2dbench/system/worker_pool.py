"""Worker processes that end when their parent process ends."""

import os
import threading
import time
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes. A fork would copy locks that torch's threads hold."""
    return ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    )


def result_of(future: "Future[T]", pool: ProcessPoolExecutor) -> T:
    """The result of a task; BrokenExecutor if the pool can no longer give one.

    Where no memory is left for a thread, the pool's own thread ends and its tasks never do.
    """
    while True:
        try:
            return future.result(timeout=_CHECK_SECONDS)
        except TimeoutError:
            if future.done():  # the task itself raised it, or ended a moment ago
                return future.result()
            thread = getattr(pool, "_executor_manager_thread", None)
            if thread is not None and not thread.is_alive():
                for process in dict(getattr(pool, "_processes", None) or {}).values():
                    process.kill()
                raise BrokenExecutor("the thread that feeds the worker processes ended") from None


_CHECK_SECONDS = 5.0


def default_workers() -> int:
    """The number of cores that this process may use; 0 if there is only one."""
    count = len(os.sched_getaffinity(0))
    return count if count > 1 else 0


def max_workers() -> int:
    """The most worker processes that a command starts: two per core, and four on a small machine.

    Each takes some hundred megabytes, so that a slip of the finger could end the machine.
    """
    return max(4, 2 * len(os.sched_getaffinity(0)))


def end_with(parent: int) -> None:
    """End this process when its parent is killed; a pool's workers would wait forever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
