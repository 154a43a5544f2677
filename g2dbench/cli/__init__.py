"""The command line: parse, call one function, print. `app` is the console script.

Only typer and rich load at start; each command imports what it uses, so that `--help` is quick.
"""

from g2dbench.cli import (
    ablate,
    data,
    demo,
    doctor,
    eval,
    export,
    figure,
    pretrain,
    profile,
    results,
)
from g2dbench.cli import list as listing
from g2dbench.cli.app import app

__all__ = ["app"]

pretrain.register(app)
figure.register(app)
profile.register(app)
eval.register(app)
ablate.register(app)
export.register(app)
results.register(app)
listing.register(app)
app.add_typer(data.app, name="data")
demo.register(app)
doctor.register(app)
