"""Commands in forked children of one process that has imported everything, so that each is cheap.

A child runs the command line as the script does. It reports what it asks of the network and which
programs it starts; both are refused.
"""

import contextlib
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from g2dbench.pretrained.text import tokenizer_check

DOCUMENTED = (0, 1, 2, 75)
"""Exit codes of commands that were not stopped by their user."""

SECONDS = 120
_HARMLESS = ("git", "uname", "lscpu")


@dataclass
class Ended:
    """code: exit code, None if a signal ended it. events: "fetched ..." and "executed ..."."""

    code: int | None
    signal: int
    text: str
    events: list[str]
    seconds: float

    def count(self, kind: str) -> int:
        return sum(event.startswith(kind) for event in self.events)

    @property
    def is_traceback(self) -> bool:
        """Whether it ended otherwise than by a documented code and a sentence."""
        return "Traceback (most recent" in self.text or self.code not in DOCUMENTED


class Child:
    """A running command, or a function whose JSON value is its last event."""

    def __init__(self, action: Callable[[], Any], prepare: Callable[[], object] | None) -> None:
        text_in, text_out = os.pipe()
        event_in, event_out = os.pipe()
        self._began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _become(text_out, event_out, action, prepare)
        os.close(text_out)
        os.close(event_out)
        self._pipes = {text_in: b"", event_in: b""}
        self._names = text_in, event_in

    def wait(self, kill_after: float | None = None, seconds: float = SECONDS) -> Ended:
        """The end; kill_after: SIGKILL for it and its workers after this time."""
        limit = self._began + (seconds if kill_after is None else kill_after)
        left = set(self._pipes)
        status = None
        while status is None or left:
            timeout = max(0.0, min(0.05, limit - time.monotonic()))
            for pipe in select.select(list(left), [], [], timeout)[0]:
                data = os.read(pipe, 1 << 16)
                self._pipes[pipe] += data
                if not data:
                    left.discard(pipe)
            if status is None:
                done, found = os.waitpid(self.pid, os.WNOHANG)
                status = found if done else None
            if status is None and time.monotonic() >= limit:
                self._kill()
            elif status is not None and left:
                self._kill()  # workers that outlive it hold the pipes
        self._kill()
        for pipe in self._pipes:
            os.close(pipe)
        text, events = (self._pipes[name].decode(errors="replace") for name in self._names)
        ended = os.waitstatus_to_exitcode(status)
        return Ended(
            ended if ended >= 0 else None, max(-ended, 0), text, events.splitlines(),
            time.monotonic() - self._began,
        )  # fmt: skip

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def command(words: Sequence[object], prepare: Callable[[], object] | None = None) -> Child:
    """Start `g2dbench WORDS`; prepare: runs in the child before, such as setting a limit."""
    return Child(lambda: _run([str(word) for word in words]), prepare)


def call(function: Callable[..., Any], *args: Any) -> Any:
    """The JSON value of a function that runs in a child."""
    ended = Child(lambda: _report(f"value {json.dumps(function(*args))}"), None).wait()
    values = [event for event in ended.events if event.startswith("value ")]
    if not values:
        raise RuntimeError(f"{function.__name__}: {ended.text[-2000:]}")
    return json.loads(values[-1].removeprefix("value "))


def import_all(*commands: Sequence[object]) -> None:
    """Import here what commands import, so that later children have it."""
    for words in commands:
        ended = Child(partial(_modules, [str(word) for word in words]), None).wait()
        names = [event for event in ended.events if event.startswith("value ")]
        if not names:
            raise SystemExit(f"{' '.join(map(str, words))}: {ended.text[-3000:]}")
        for name in json.loads(names[-1].removeprefix("value ")):
            try:
                importlib.import_module(name)
            except Exception:
                continue


_reports = -1


def _report(line: str) -> int:
    os.write(_reports, line.replace("\n", " ").encode(errors="replace") + b"\n")
    return 0


report = _report


def _become(
    text: int, events: int, action: Callable[[], Any], prepare: Callable[[], object] | None
) -> None:
    global _reports
    code = 70
    try:
        os.setsid()
        for number in (1, 2):
            os.dup2(text, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _reports = events
        sys.addaudithook(_watch)
        random.seed()
        if prepare is not None:
            prepare()
        code = action()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code or 0)


def _run(words: list[str]) -> int:
    from g2dbench.cli import app

    sys.argv = ["g2dbench", *words]
    app(words)
    return 0


def _modules(words: list[str]) -> int:
    try:
        _run(words)
    except SystemExit as end:
        if end.code:
            raise
    return _report(f"value {json.dumps(list(sys.modules))}")


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and args[0].family != socket.AF_UNIX:
        _report(f"fetched {args[1]}")
        raise OSError("no network in a stress test")
    if event == "socket.getaddrinfo":
        _report(f"fetched {args[0]}")
        raise OSError("no network in a stress test")
    if event in ("os.system", "os.exec", "os.posix_spawn", "pty.spawn"):
        _report(f"executed {event} {args[0]!r}")
    if event == "subprocess.Popen" and not _is_ours(args[1]):
        _report(f"executed {event} {args[1]!r}")


def _is_ours(words: Any) -> bool:
    if isinstance(words, str):
        return os.path.basename(words.split()[0]) in _HARMLESS
    listed = [os.fsdecode(word) for word in words]
    own = listed[0] == sys.executable and tokenizer_check._TRIAL in listed
    return own or os.path.basename(listed[0]) in _HARMLESS


__all__ = ["Child", "Ended", "call", "command", "import_all", "report", "subprocess"]
