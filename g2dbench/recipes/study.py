"""Ablation studies: a question, and the recipe changes that answer it.

A method states its studies (`STUDIES` in its module); `g2dbench ablate` runs them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One variant of a study.

    changes: of the recipe, as for `--set`. transfer: ending of the protocol, `ENCODER_ONLY` to
    evaluate without the pre-trained decoder. paper: the arm's name in `published.csv`, "" for none.
    """

    name: str
    changes: tuple[str, ...] = ()
    transfer: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Study:
    """A question and its arms; the first arm is the reference that the others are compared with.

    tables: tables of the paper (arXiv 2312.01522) that answer it; empty if there are none.
    """

    name: str
    question: str
    tables: tuple[str, ...]
    arms: tuple[Arm, ...]


ENCODER_ONLY = "-encoder"
"""Ending of a protocol that starts with a randomly initialized decoder."""
