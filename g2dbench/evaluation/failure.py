"""The report of an unexpected exception: its type, its message and the line that raised it.

Plug-ins may raise any exception. Their authors need the line in their own file, not sixty lines of
the engine; the full traceback is written to a file.
"""

import sys
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import g2dbench
from g2dbench.system.files import replace_file
from g2dbench.system.memory import memory_sentence

TRACEBACK_FILE = "error.txt"


def describe_failure(error: BaseException, modules: Iterable[str]) -> str:
    """One line that describes the error; modules: names of the plug-ins that ran."""
    text = " ".join(str(error).split()) or "no message"
    frame = _frame(traceback.extract_tb(error.__traceback__), [*modules])
    place = f", in {frame.filename}, line {frame.lineno}: {frame.line}" if frame else ""
    advice = memory_sentence(error)
    return f"{type(error).__name__}: {text}{place}" + (f"; {advice}" if advice else "")


def write_traceback(error: BaseException, folder: Path) -> Path:
    """Write the full traceback to the cell's folder; returns the file."""
    path = folder / TRACEBACK_FILE
    text = "".join(traceback.format_exception(error))
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def _frame(
    frames: Sequence[traceback.FrameSummary], modules: Sequence[str]
) -> traceback.FrameSummary | None:
    """The innermost frame in a plug-in, else in the user's code, else of all frames."""
    plugins = {
        str(Path(file).resolve())
        for name in modules
        if (file := getattr(sys.modules.get(name), "__file__", None))
    }
    paths = sysconfig.get_paths()
    foreign = [Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")]
    foreign.append(Path(g2dbench.__file__).resolve().parent)
    resolved = [(frame, Path(frame.filename).resolve()) for frame in frames]
    own = [frame for frame, file in resolved if str(file) in plugins]
    users = [f for f, file in resolved if not any(file.is_relative_to(place) for place in foreign)]
    found = own or users or list(frames)
    return found[-1] if found else None
