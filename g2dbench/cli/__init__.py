"""The command line: parse, call one function, print. `app` is the console script.

Only typer and rich load at start; each command imports what it uses, so that `--help` is quick.
"""

from g2dbench.cli import (
    ablating,
    data,
    demo,
    doctor,
    evaluation,
    exporting,
    judging,
    listing,
    looking,
    pretraining,
)
from g2dbench.cli.application import app

__all__ = ["app"]

pretraining.register(app)
looking.register(app)
evaluation.register(app)
ablating.register(app)
exporting.register(app)
judging.register(app)
listing.register(app)
app.add_typer(data.app, name="data")
demo.register(app)
doctor.register(app)
