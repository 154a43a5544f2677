"""Processes that decode or draw: spawned, and gone when the process that asked for them is."""

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def pool(workers: int) -> ProcessPoolExecutor:
    """So many processes; spawned, not forked: a fork leaves the locks of torch's threads held."""
    return ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_die_with, initargs=(os.getpid(),)
    )


def cores() -> int:
    """Processes worth starting: the cores this process may use; 0 where there is only one."""
    count = len(os.sched_getaffinity(0))
    return count if count > 1 else 0


def _die_with(parent: int) -> None:
    """End this process when its parent is killed; a pool's workers would wait for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
