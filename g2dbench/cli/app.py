"""The Typer application: errors become sentences, exit codes are 0 done, 1 failed, 2 misuse."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import g2dbench
from g2dbench.cli.panels import PANELS
from g2dbench.errors import G2DBenchError, Misuse


def guarded(run: Callable[[], Any]) -> Any:
    """Run a command; the user's errors, a full disk and Ctrl-C end in a sentence."""
    try:
        return run()
    except G2DBenchError as error:
        _say(str(error))
        raise typer.Exit(2 if isinstance(error, Misuse) else 1) from error
    except OSError as error:
        _say(f"{error.filename or 'the disk'}: {error.strerror or error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        _say("stopped; what was finished is kept, and the same command goes on from there")
        raise typer.Exit(130) from error


def _say(sentence: str) -> None:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(sentence, err=True)


class Group(TyperGroup):
    """A command group whose commands run guarded, and whose help lists them panel by panel."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, those of one panel together; else as they were added."""
        return sorted(super().list_commands(ctx), key=self._panel)

    def _panel(self, name: str) -> int:
        panel = getattr(self.commands[name], "rich_help_panel", None)
        return PANELS.index(panel) if panel in PANELS else len(PANELS)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        return guarded(lambda: super(Group, self).invoke(ctx))


app = typer.Typer(
    cls=Group,
    name="g2dbench",
    help="Train G2D, wrap rival vision-language models, and measure both on chest radiographs.",
    epilog="First time? Run `g2dbench demo`: it needs no data and no network.",
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
    """Train G2D, wrap rival vision-language models, and measure both on chest radiographs."""
