"""The Typer application: errors become sentences, and exit codes say how a command ended.

0 done, 1 failed, 2 misuse, 130 stopped by Ctrl-C, 141 the reader of the output went away.
"""

import os
import select
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import g2dbench
from g2dbench.cli.panels import PANELS
from g2dbench.errors import G2DBenchError, Misuse
from g2dbench.system.files import full_disk

CLOSED_PIPE = 141
"""128 + SIGPIPE, as a shell reports a program that `head` or a pager cut short."""


def guarded(run: Callable[[], Any]) -> Any:
    """Run a command; the user's errors, a full disk and Ctrl-C end in a sentence."""
    try:
        return run()
    except G2DBenchError as error:
        _say(str(error))
        raise typer.Exit(2 if isinstance(error, Misuse) else 1) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_output_closed():
            raise
        _say(_disk_sentence(error))
        raise typer.Exit(1) from error
    except Exception as error:
        if full_disk(error) is None:
            raise
        _say(_disk_sentence(error))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        _say("stopped; what was finished is kept, and the same command goes on from there")
        raise typer.Exit(130) from error


def _say(sentence: str) -> None:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(sentence, err=True)


def _disk_sentence(error: BaseException) -> str:
    """Which file, and what the system says of it; for a full disk also what to do."""
    refused = full_disk(error)
    told = error if isinstance(error, OSError) else None
    where = (told and told.filename) or "the disk"
    if refused is None:
        return f"{where}: {(told and told.strerror) or error}"
    return (
        f"{where}: {os.strerror(refused)}; what was finished is kept: make room, and the same "
        "command goes on from there"
    )


def _is_output_closed() -> bool:
    """Whether the reader of stdout or stderr went away; other pipes break for other reasons."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        try:
            poll.register(stream.fileno(), 0)
        except (OSError, ValueError):  # a stream without a file, as in a test
            continue
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _leave_closed_pipe() -> None:
    """Exit as other programs do; what is still in the buffers goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    sys.exit(CLOSED_PIPE)


class Group(TyperGroup):
    """A command group whose commands run guarded, and whose help lists them panel by panel."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, those of one panel together; else as they were added."""
        return sorted(super().list_commands(ctx), key=self._panel)

    def _panel(self, name: str) -> int:
        panel = getattr(self.commands[name], "rich_help_panel", None)
        return PANELS.index(panel) if panel in PANELS else len(PANELS)

    def main(self, *args: Any, **options: Any) -> Any:
        """Parse and run; quiet where the output's reader went away, as in `g2dbench ... | head`."""
        try:
            return super().main(*args, **options)
        except SystemExit as end:
            # Rich and Typer both answer a closed pipe by exiting with 1, as if the work had failed.
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
    "1 failed, 2 a wrong request, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"g2dbench {g2dbench.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train G2D, wrap other vision-language models, and evaluate them on chest radiographs."""
