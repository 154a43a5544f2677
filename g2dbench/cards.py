"""Cards: what a plug-in says of itself. Frozen, literal, readable without importing the plug-in.

Every plug-in file assigns one card to `CARD` at its top level, with literal arguments only; the
registry reads that assignment from the source text (docs/decisions/001-cards-are-literals.md).
Listing therefore runs no plug-in code, loads no weights and imports no torch.
"""

from dataclasses import dataclass

CAPABILITIES = ("embeds", "features", "locates", "matches", "decodes")
"""What a model can do; one protocol each in `g2dbench.model`."""

ANNOTATIONS = ("reports", "labels", "boxes", "masks")
"""What a data set can offer."""


def _check_subset(owner: str, field: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"the card of {owner!r} names unknown {field} {unknown}; known: {known}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What every card has: the name used on the command line and one line saying what it is."""

    name: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class ModelCard(Card):
    """A model that can be evaluated.

    Attributes:
        paper: citation with year; source: where code and weights are; licence: of the weights.
        capabilities: subset of CAPABILITIES that a loaded model has.
        trained_on: data sets seen in pre-training, by the names of their cards where they have one.
        needs_weights: whether `NAME:SOURCE` must give a file, a folder or a hub id.
        source_kind: what SOURCE is: "file", "folder", "hub" (folder or hub id) or "".
        signature: keys of the official state_dict by which a bare file is recognised.
    """

    paper: str
    source: str
    licence: str
    capabilities: tuple[str, ...]
    trained_on: tuple[str, ...] = ()
    needs_weights: bool = True
    source_kind: str = "file"
    signature: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_subset(self.name, "capabilities", self.capabilities, CAPABILITIES)


@dataclass(frozen=True, kw_only=True)
class TaskCard(Card):
    """A task: what it needs of a model and of a data set, and what it reports.

    Attributes:
        needs: capabilities of which the model must have at least one.
        annotations: annotations of which the data set must offer at least one.
        protocols: named, versioned settings; the first is the default.
        metric: the main score's name, shown in the leaderboard; higher is better.
        source: where the protocol and the metric are defined.
        fits: whether a head is trained (then fractions and seeds matter) or it is zero-shot.
    """

    needs: tuple[str, ...]
    annotations: tuple[str, ...]
    protocols: tuple[str, ...]
    metric: str
    source: str
    fits: bool = True

    def __post_init__(self) -> None:
        _check_subset(self.name, "capabilities", self.needs, CAPABILITIES)
        _check_subset(self.name, "annotations", self.annotations, ANNOTATIONS)


@dataclass(frozen=True, kw_only=True)
class DatasetCard(Card):
    """A data set in its owners' official layout.

    Attributes:
        offers: subset of ANNOTATIONS; findings: label names in their official order.
        url: where to get it; licence: its terms; layout: the files that its root must contain.
        embedded: drawn by the program, needs no root.
        options: keys that `data prepare --option KEY=VALUE` takes; the reader then is
            `read(root, options)`.
        generic: a layout for anyone's data, which `--name` gives a name; such a reader also has
            `describe(root, options)`, the card of what the root holds.
    """

    offers: tuple[str, ...]
    findings: tuple[str, ...]
    url: str
    licence: str
    layout: tuple[str, ...] = ()
    embedded: bool = False
    options: tuple[str, ...] = ()
    generic: bool = False

    def __post_init__(self) -> None:
        _check_subset(self.name, "annotations", self.offers, ANNOTATIONS)


@dataclass(frozen=True, kw_only=True)
class MethodCard(Card):
    """A pre-training method; `capabilities` are those of the model that it produces."""

    paper: str
    capabilities: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_subset(self.name, "capabilities", self.capabilities, CAPABILITIES)
