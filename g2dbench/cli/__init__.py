"""The command line: parse, call one function, print. `app` is the console script.

Only typer and rich load at start; each command imports what it uses, so that `--help` is quick.
"""

from g2dbench.cli import (
    ablate,
    cache,
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
from g2dbench.cli.evaluate import predict
from g2dbench.cli.panels import DATA

__all__ = ["app"]

# The commands of one panel stand in the help in this order.
demo.register(app)
pretrain.register(app)
profile.register(app)
export.register(app)
eval.register(app)
predict.register(app)
ablate.register(app)
results.register(app)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(cache.app, name="cache", rich_help_panel=DATA)
listing.register(app)
figure.register(app)
doctor.register(app)
