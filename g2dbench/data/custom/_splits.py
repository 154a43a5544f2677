"""The splits of user data: as the data name them, with a validation split added if it is missing.

Data with a single split count as not split; g2dbench then splits them by patient. If there are
training and test images but no validation images, about a fifth of the training patients, selected
by a hash of their names, becomes the validation split.
"""

from collections.abc import Iterable

from g2dbench.data.splits.stratified import uniform_hash

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validate": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip

HELD_OUT = 0.2


class UserSplits:
    """Maps the split names of a data set to train, valid and test.

    names: all split names that occur in the data.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._known = {SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}

    def of(self, name: str | None, patient: str) -> str | None:
        """Return the split of a patient with this split name; None if g2dbench is to choose it."""
        if name is None or len(self._known) < 2:
            return None
        split = SPLIT_NAMES.get(name.lower())
        lacks_valid = split == "train" and "valid" not in self._known
        return "valid" if lacks_valid and uniform_hash("own valid", patient) < HELD_OUT else split
