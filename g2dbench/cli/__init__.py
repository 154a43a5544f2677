"""The command line: each command parses, calls one function, and prints. `app` is the script.

Only typer and rich are imported at start; a command imports what it uses, so `--help` is fast.
"""

from g2dbench.cli.app import app
from g2dbench.cli.compare import (
    align,
    analyses,
    compare,
    merge,
    regress,
    report,
    results,
    variance,
)
from g2dbench.cli.datasets import cache, data
from g2dbench.cli.evaluate import ablate, demo, eval, import_file, predict, rerun, suite, sweep
from g2dbench.cli.extend import check_model, new
from g2dbench.cli.look import doctor, errors, result_figures, show
from g2dbench.cli.look import list as listing
from g2dbench.cli.panels import DATA, LOOK
from g2dbench.cli.train import export, pretrain, profile

__all__ = ["app"]

# The help lists the commands of a panel in this order.
demo.register(app)
pretrain.register(app)
profile.register(app)
export.register(app)
eval.register(app)
suite.register(app)
sweep.register(app)
predict.register(app)
import_file.register(app)
rerun.register(app)
ablate.register(app)
results.register(app)
compare.register(app)
variance.register(app)
regress.register(app)
analyses.register(app)
align.register(app)
report.register(app)
merge.register(app)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(cache.app, name="cache", rich_help_panel=DATA)
listing.register(app)
show.register(app)
app.add_typer(result_figures.app, name="figure", rich_help_panel=LOOK)
errors.register(app)
doctor.register(app)
new.register(app)
check_model.register(app)
