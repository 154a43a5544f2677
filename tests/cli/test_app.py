"""How a command ends: sentences instead of tracebacks, exit codes, closed pipes."""

import errno
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from g2dbench.cli.app import CLOSED_PIPE, guarded
from g2dbench.errors import BadData, Misuse


def cut_short(*words: str) -> tuple[int, str]:
    """The exit code and stderr of a command whose reader has gone before it writes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "g2dbench", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    return process.wait(60), process.stderr.read()


@pytest.mark.parametrize(
    "words",
    [("--help",), ("--version",), ("eval", "--help"), ("data", "list", "--json"), ("list", "data")],
)
def test_a_closed_pipe_ends_a_command_quietly(words: tuple[str, ...]) -> None:
    assert cut_short(*words) == (CLOSED_PIPE, "")


def ended(error: BaseException, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    def run() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        guarded(run)
    return caught.value.exit_code, capsys.readouterr().err.strip()


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


FULL = OSError(errno.ENOSPC, "No space left on device", "runs/a/run.json")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Misuse("no such thing"), 2, "error: no such thing"),
        (BadData("broken"), 1, "error: broken"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv"),
            1,
            "a.csv: No such",
        ),
        (
            FULL,
            1,
            "runs/a/run.json: No space left on device; finished work is kept: free some space",
        ),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), 1, "the disk: No space"),
        (chained(RuntimeError("unexpected pos 704 vs 598"), FULL), 1, "No space left on device"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "Broken pipe"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_an_error_is_one_line_with_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture
) -> None:
    found, text = ended(error, capsys)
    assert (found, said in text) == (code, True), text
    assert "\n" not in text


def test_an_unexpected_exception_keeps_its_traceback() -> None:
    def run() -> Callable:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(run)
