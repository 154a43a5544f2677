"""Errors that the user can cause and fix.

    G2DBenchError(ValueError)   the command line prints its text, no traceback, and exits with 1
    ├── Misuse                  the request is wrong: unknown name, impossible value (exit 2)
    ├── BadData                 a folder, table or image is missing, broken or lacks a column
    ├── BadCheckpoint           a weights file is broken, unsafe, or of another architecture
    ├── BadResult               a result file is broken, edited, or not comparable
    ├── Unsupported             a model cannot do what a task needs: a dash in the table
    ├── Busy                    another process writes the same folder (exit 75)
    └── Stopped                 training was interrupted

A message states the request, what was found, and what to do next; it names the file and the row.
"""


class G2DBenchError(ValueError):
    """Base class of all errors that the user can cause and fix."""


class Misuse(G2DBenchError):
    """The request is invalid: an unknown name, a value out of range."""


class BadData(G2DBenchError):
    """A data set's folder, table or image is missing, broken or not in its official layout."""


class BadCheckpoint(G2DBenchError):
    """A checkpoint is broken, unsafe to open, or belongs to another architecture."""


class BadResult(G2DBenchError):
    """A result file is broken, was edited, or cannot be compared with another."""


class Unsupported(G2DBenchError):
    """A model lacks the capability that a task needs."""


class Busy(G2DBenchError):
    """Another process is at work on the same run or store; the message says which one."""


class Stopped(G2DBenchError):
    """Training was interrupted or cannot continue; the message says how to continue."""
