"""The splits of one's own data: as its owner named them, completed where validation is lacking.

One split alone is none: g2dbench then splits by patient. Where there are training and test images
but nothing for validation, about a fifth of the training patients is held out, by their names.
"""

from collections.abc import Iterable

from g2dbench.data.splits.stratified import uniform_hash

NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validate": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip

HELD_OUT = 0.2


class OwnSplits:
    """What a split's name says, given all names that the data has."""

    def __init__(self, names: Iterable[str]) -> None:
        self._known = {NAMES[name.lower()] for name in names if name.lower() in NAMES}

    def of(self, name: str | None, patient: str) -> str | None:
        """train, valid or test, or None where g2dbench shall choose."""
        if name is None or len(self._known) < 2:
            return None
        split = NAMES.get(name.lower())
        lacks_valid = split == "train" and "valid" not in self._known
        return "valid" if lacks_valid and uniform_hash("own valid", patient) < HELD_OUT else split
