"""Two processes over gloo, as torchrun would start them."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import trainee


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(target: Callable[..., None], *args: Any) -> None:
    port = free_port()
    processes = [trainee.run(target, rank, port, *args) for rank in range(2)]
    for process in processes:
        process.join(200)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0, 0]


def term_at(step: int, pid: Path) -> Callable[..., Any]:
    """A progress, which the first process alone shows, that ends another process at a step."""

    def progress(items: Any, title: str, total: int | None = None) -> Any:
        for batch in items:
            if batch.step == step:
                os.kill(int(pid.read_text()), signal.SIGTERM)
            yield batch

    return progress
