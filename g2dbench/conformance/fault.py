"""Turns an exception of an author's code into a sentence with the line of the author's file."""

import linecache
import traceback
from collections.abc import Iterable
from pathlib import Path

from g2dbench.errors import G2DBenchError


def describe(error: BaseException, files: Iterable[Path]) -> str:
    """The exception's type and message, and the last line of the author's files that it passed.

    Errors of g2dbench are sentences already and keep their text.
    """
    what = " ".join(str(error).split())
    if isinstance(error, G2DBenchError):
        return what
    what = f"{type(error).__name__}: {what}" if what else type(error).__name__
    frame = _last_frame(error, {file.resolve() for file in files})
    return f"{what} ({_place(frame)})" if frame is not None else what


def _last_frame(error: BaseException, files: set[Path]) -> traceback.FrameSummary | None:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve() in files]
    if own:
        return own[-1]
    return frames[-1] if frames else None


def _place(frame: traceback.FrameSummary) -> str:
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}: `{line}`"
