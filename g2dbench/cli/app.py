"""The Typer application: prints errors as one line, and sets the exit code.

0 done, 1 failed, 2 misuse, 75 another process is at work on the same folder, 130 stopped by Ctrl-C,
141 the output was closed by its reader.
"""

import os
import select
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import g2dbench
from g2dbench.cli.panels import PANELS
from g2dbench.errors import Busy, G2DBenchError, Misuse
from g2dbench.system.files import full_disk
from g2dbench.system.memory import memory_sentence

# Threads of torch that wait for one another give up their core, and do not spin: on a machine with
# other work two spinning threads are ten times slower (docs/performance.md). Read by OpenMP when
# torch is loaded, after this module; no score depends on it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CLOSED_PIPE = 141
"""128 + SIGPIPE, the exit code of a program whose output `head` or a pager closed."""


def guarded(run: Callable[[], Any]) -> Any:
    """Run a command; print errors of the user, a full disk and Ctrl-C as one line."""
    try:
        return run()
    except G2DBenchError as error:
        _print_error(str(error))
        raise typer.Exit(_exit_code(error)) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_output_closed():
            raise
        _print_error(memory_sentence(error) or _disk_sentence(error))
        raise typer.Exit(1) from error
    except Exception as error:
        sentence = memory_sentence(error)
        if full_disk(error) is None and sentence is None:
            raise
        _print_error(sentence or _disk_sentence(error))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        _print_error("stopped; finished work is kept, and the same command resumes it")
        raise typer.Exit(130) from error


BUSY = 75
"""The exit code for "try again later", as sysexits.h has it."""


def _exit_code(error: G2DBenchError) -> int:
    if isinstance(error, Busy):
        return BUSY
    return 2 if isinstance(error, Misuse) else 1


def _print_error(sentence: str) -> None:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(sentence, err=True)


_show_python_warning = warnings.showwarning


def _show_warning(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print a warning of g2dbench as a note, without the place in the code; others as usual."""
    if category.__module__.startswith("g2dbench."):
        typer.echo(f"note: {message}", err=True)
    else:
        _show_python_warning(message, category, *where, **more)


def _disk_sentence(error: BaseException) -> str:
    """The file and the message of the system; for a full disk also what to do."""
    refused = full_disk(error)
    os_error = error if isinstance(error, OSError) else None
    where = (os_error and os_error.filename) or "the disk"
    if refused is None:
        return f"{where}: {(os_error and os_error.strerror) or error}"
    return (
        f"{where}: {os.strerror(refused)}; finished work is kept: free some space, and the "
        "same command resumes it"
    )


def _is_output_closed() -> bool:
    """Whether the reader of stdout or stderr closed it; other pipes break for other reasons."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        try:
            poll.register(stream.fileno(), 0)
        except (OSError, ValueError):  # a stream without a file, as in a test
            continue
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _leave_closed_pipe() -> None:
    """Exit with CLOSED_PIPE; discard what is still in the output buffers."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(devnull, stream.fileno())
    sys.exit(CLOSED_PIPE)


class Group(TyperGroup):
    """A command group with guarded commands, whose help lists them by panel."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, sorted by panel; within a panel as they were added."""
        return sorted(super().list_commands(ctx), key=self._panel)

    def _panel(self, name: str) -> int:
        panel = getattr(self.commands[name], "rich_help_panel", None)
        return PANELS.index(panel) if panel in PANELS else len(PANELS)

    def main(self, *args: Any, **options: Any) -> Any:
        """Parse and run; no message if the output was closed, as in `g2dbench ... | head`."""
        try:
            with warnings.catch_warnings():  # restores showwarning in the end
                warnings.showwarning = _show_warning
                return super().main(*args, **options)
        except SystemExit as end:
            # On a closed pipe, Rich and Typer exit with 1, as if the command had failed.
            if isinstance(end.__context__, BrokenPipeError):
                _leave_closed_pipe()
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        return guarded(lambda: super(Group, self).invoke(ctx))


app = typer.Typer(
    cls=Group,
    name="g2dbench",
    help="Train G2D, wrap other vision-language models, and evaluate them on chest radiographs.",
    epilog="First time? Run `g2dbench demo`: it needs no data and no network. Exit codes: 0 done, "
    "1 failed, 2 a wrong request, 75 another process is at work on it, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"g2dbench {g2dbench.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train G2D, wrap other vision-language models, and evaluate them on chest radiographs."""
