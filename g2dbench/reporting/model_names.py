"""Names of models in tables: a label, and the digest of the weights where several models share it.

The label says where weights came from (`encoder:resnet50@best.pth`), so that two models can have
the same one; the digest of the weights never is the same. Pre-training seeds of one recipe share a
label on purpose: they are one row.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from g2dbench.result import Cell, Result

DIGITS = 6
"""Of a digest, in a name."""

Label = tuple[str, int | None]
"""A model's label and its pre-training seed, None for published weights."""


@dataclass(frozen=True)
class Names:
    """What each model of some results is called.

    weights: the digests that go by a label and seed, in the order of their results' creation.
    sources: what the user called the weights of a digest, where that was written down.
    shared: labels that are known to stand for several models, whatever the results say.
    """

    weights: dict[Label, tuple[str, ...]]
    sources: dict[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    def of(self, result: Result) -> str:
        """The row's name: the label alone where it names one model."""
        label, seed = label_of(result)
        if label not in self.shared and len(self.weights[label, seed]) == 1:
            return label
        return marked(label, result.provenance.weights)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each label of several models and each model of several labels."""
        return (*self._shared_labels(), *self._shared_weights())

    def _shared_labels(self) -> list[str]:
        lines = []
        for (label, seed), digests in self.weights.items():
            if len(digests) > 1:
                told = ", ".join(self._told(label, digest) for digest in digests)
                lines.append(f"{_with_seed(label, seed)} names {len(digests)} models: {told}.")
        return lines

    def _told(self, label: str, digest: str) -> str:
        source = self.sources.get(digest, "")
        short = marked("", digest)
        return f"{short} is {source}" if source and source != label else short

    def _shared_weights(self) -> list[str]:
        labels: dict[str, list[str]] = defaultdict(list)
        for (label, seed), digests in self.weights.items():
            for digest in digests:
                labels[digest].append(_with_seed(label, seed))
        return [
            f"{' and '.join(same)} hold the same weights." for same in labels.values() if same[1:]
        ]


def label_of(result: Result) -> Label:
    """The label and the pre-training seed of a result's model."""
    return result.cell.model, result.cell.model_seed


def marked(label: str, digest: str) -> str:
    """A label with the beginning of a digest: `encoder:resnet50@best.pth#4be1c2`."""
    return f"{label}#{digest[:DIGITS]}"


def _with_seed(label: str, seed: int | None) -> str:
    return label if seed is None else f"{label} of seed {seed}"


def names(results: Iterable[Result], shared: Iterable[str] = ()) -> Names:
    """The names of all models in these results; `shared` as in `Names`."""
    weights: dict[Label, dict[str, None]] = defaultdict(dict)
    sources: dict[str, str] = {}
    for result in sorted(results, key=lambda result: result.provenance.created):
        weights[label_of(result)][result.provenance.weights] = None
        if result.provenance.source:
            sources[result.provenance.weights] = result.provenance.source
    found = {label: tuple(digests) for label, digests in weights.items()}
    return Names(found, sources, frozenset(shared))


def seeds_of(cell: Cell) -> str:
    """Which seeds a cell has: of its head, and of the pre-training where that is another."""
    if cell.model_seed is None or cell.model_seed == cell.seed:
        return f"seed {cell.seed}"
    return f"pre-training seed {cell.model_seed}, seed {cell.seed}"
