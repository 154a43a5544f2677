"""Ablation studies: a question, and the recipe changes that answer it.

A method states its studies (`STUDIES` in its module); `g2dbench ablate` runs them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One setting under study.

    changes: to the recipe, as for `--set`. transfer: hand the decoder over or the encoder alone,
    where the task knows the difference. paper: the arm's name in `published.csv`, "" for none.
    """

    name: str
    changes: tuple[str, ...] = ()
    transfer: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Study:
    """A question and its arms; the first arm is the reference that the others are held against.

    tables: those of the paper (arXiv 2312.01522) that ask it; none for what the paper leaves open.
    """

    name: str
    question: str
    tables: tuple[str, ...]
    arms: tuple[Arm, ...]


ENCODER_ONLY = "-encoder"
"""Ending of a protocol that starts from a fresh decoder."""
