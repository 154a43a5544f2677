"""A figure, its colors, and its file: the same content gives the same bytes.

Colors are those of Okabe & Ito 2008, which people with any kind of color vision tell apart; each
also has a mark of its own, for print in gray.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from g2dbench.errors import Misuse
from g2dbench.registry import unknown_name
from g2dbench.reporting.markup import one_line
from g2dbench.system.files import replace_file

FORMATS = (".svg", ".pdf", ".png")

COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#B8A900",
)  # fmt: skip
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
MAX_MODELS = len(COLORS)

_SETTINGS = {
    "svg.hashsalt": "g2dbench",  # names of clip paths do not depend on chance
    "svg.fonttype": "none",  # text stays text, which can be searched and edited
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",  # part of matplotlib, so every machine has it
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "legend.frameon": False,
    "text.usetex": False,
    "text.parse_math": False,  # a model's name with dollar signs is no formula
}


def check_format(out: Path) -> None:
    """Raise Misuse unless the file name ends with a known format, and matplotlib is installed."""
    if out.suffix.lower() not in FORMATS:
        raise Misuse(f"--out {out}: " + unknown_name("format", out.suffix, list(FORMATS)))
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise Misuse(
            "figures of results need matplotlib: pip install 'g2dbench[figures]'"
        ) from error


@contextmanager
def style() -> Iterator[None]:
    """The settings of all figures; those of the user's own matplotlib do not count."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure of this size in inches; no window is opened."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, out: Path) -> None:
    """Write the figure atomically, without date and versions. Call it within `style`."""
    kind = out.suffix.lower().removeprefix(".")
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    replace_file(
        out,
        lambda temporary: figure.savefig(
            temporary, format=kind, dpi=200, metadata=metadata[kind], facecolor="white"
        ),
    )


def label(text: str, longest: int = 40) -> str:
    """A stranger's text for a figure: one line, shortened in the middle."""
    clean = one_line(text)
    half = (longest - 1) // 2
    return clean if len(clean) <= longest else f"{clean[:half]}…{clean[-half:]}"
