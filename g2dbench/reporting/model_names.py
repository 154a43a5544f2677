"""Names of models in tables: a label, with a digest of the weights if several models share it.

The label names the source of the weights (`encoder:resnet50@best.pth`), so two models can have the
same label; their digests differ. Pre-training seeds of one recipe share a label on purpose, because
they form one row.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from g2dbench.result import Cell, Result

DIGEST_LENGTH = 6
"""Number of characters of a digest in a name."""

Label = tuple[str, int | None]
"""A model's label and its pre-training seed; the seed is None for published weights."""


@dataclass(frozen=True)
class ModelNames:
    """The names of all models in some results.

    weights: the digests of each label and seed, in the order in which their results were created.
    sources: digest -> the source that the user gave, if the result contains it.
    shared: labels that several models have even if the results contain only one of them.
    """

    weights: dict[Label, tuple[str, ...]]
    sources: dict[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    def of(self, result: Result) -> str:
        """The name of the row: the label, with a digest if the label is not unique."""
        label, seed = label_of(result)
        if label not in self.shared and len(self.weights[label, seed]) == 1:
            return label
        return with_digest(label, result.provenance.weights)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each label of several models, and for each model with several labels."""
        return (*self._shared_labels(), *self._shared_weights())

    def _shared_labels(self) -> list[str]:
        lines = []
        for (label, seed), digests in self.weights.items():
            if len(digests) > 1:
                models = ", ".join(self._describe(label, digest) for digest in digests)
                lines.append(f"{_with_seed(label, seed)} names {len(digests)} models: {models}.")
        return lines

    def _describe(self, label: str, digest: str) -> str:
        source = self.sources.get(digest, "")
        short = with_digest("", digest)
        return f"{short} is {source}" if source and source != label else short

    def _shared_weights(self) -> list[str]:
        labels: dict[str, list[str]] = defaultdict(list)
        for (label, seed), digests in self.weights.items():
            for digest in digests:
                labels[digest].append(_with_seed(label, seed))
        return [
            f"{' and '.join(same)} have the same weights." for same in labels.values() if same[1:]
        ]


def label_of(result: Result) -> Label:
    """The label and the pre-training seed of a result's model."""
    return result.cell.model, result.cell.model_seed


def with_digest(label: str, digest: str) -> str:
    """A label with the first characters of a digest: `encoder:resnet50@best.pth#4be1c2`."""
    return f"{label}#{digest[:DIGEST_LENGTH]}"


def _with_seed(label: str, seed: int | None) -> str:
    return label if seed is None else f"{label} of seed {seed}"


def name_models(results: Iterable[Result], shared: Iterable[str] = ()) -> ModelNames:
    """The names of all models in these results; `shared` as in `ModelNames`."""
    weights: dict[Label, dict[str, None]] = defaultdict(dict)
    sources: dict[str, str] = {}
    for result in sorted(results, key=lambda result: result.provenance.created):
        weights[label_of(result)][result.provenance.weights] = None
        if result.provenance.source:
            sources[result.provenance.weights] = result.provenance.source
    by_label = {label: tuple(digests) for label, digests in weights.items()}
    return ModelNames(by_label, sources, frozenset(shared))


def describe_seeds(cell: Cell) -> str:
    """The seeds of a cell as text: that of the head, and that of the pre-training if it differs."""
    if cell.model_seed is None or cell.model_seed == cell.seed:
        return f"seed {cell.seed}"
    return f"pre-training seed {cell.model_seed}, seed {cell.seed}"
