"""Cards: frozen, literal descriptions of plug-ins that are read without importing them.

Every plug-in file assigns one card to `CARD` at its top level, with literal arguments only; the
registry reads that assignment from the source text (docs/decisions/001-cards-are-literals.md).
Listing therefore runs no plug-in code, loads no weights and imports no torch.
"""

from dataclasses import dataclass

CAPABILITIES = ("embeds", "features", "locates", "matches", "decodes")
"""What a model can do; each is a protocol in `g2dbench.model`."""

ANNOTATIONS = ("reports", "labels", "boxes", "masks")
"""Kinds of annotation that a data set can have."""


def _check_subset(owner: str, field: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"the card of {owner!r} names unknown {field} {unknown}; known: {known}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """The fields of all cards: the name on the command line, and a one-line summary."""

    name: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class ModelCard(Card):
    """A model that can be evaluated.

    Attributes:
        paper: citation with year; source: of code and weights; licence: of the weights.
        capabilities: subset of CAPABILITIES that a loaded model has.
        trained_on: pre-training data sets, by the names of their cards if they have one.
        needs_weights: whether SOURCE in `--model NAME:SOURCE` is required.
        source_kind: what SOURCE is: "file", "folder", "hub" (folder or hub id) or "".
        source_pattern: how SOURCE is written if it is not just that, such as "ARCH@FILE".
        signature: keys of the official state_dict that identify a weights file.
        files: names of the published files that SOURCE may be.
        checksum: published digests of these files, each as "FILE algorithm:hex".
        gated: whether the weights are given only after a request or a signed agreement.
        noncommercial: whether the licence forbids commercial use; loading the model says so.
        input_size: side of the input square in pixels; 0 if the model or its file decides.
        text_needs: what the text side reads beside the weights (a tokenizer, a config), or "".
        tested_with: versions with which the wrapper was compared with the original, such as
            "torch 2.6".
        openness: one line: which of weights, code, training data, licence and list of training
            images are public.
        notes: facts to know before one compares figures, among them published figures beside
            those that others could reproduce; one sentence each.
    """

    paper: str
    source: str
    licence: str
    capabilities: tuple[str, ...]
    trained_on: tuple[str, ...] = ()
    needs_weights: bool = True
    source_kind: str = "file"
    source_pattern: str = ""
    signature: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    checksum: tuple[str, ...] = ()
    gated: bool = False
    noncommercial: bool = False
    input_size: int = 0
    text_needs: str = ""
    tested_with: tuple[str, ...] = ()
    openness: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_subset(self.name, "capabilities", self.capabilities, CAPABILITIES)


@dataclass(frozen=True, kw_only=True)
class TaskCard(Card):
    """A task: its requirements on model and data set, and its main score.

    Attributes:
        needs: capabilities; the model must have at least one of them.
        annotations: kinds of annotation; the data set must offer at least one of them.
        protocols: names of versioned settings; the first is the default.
        metric: the main score's name, shown in the leaderboard; higher is better, but for the
            names in `g2dbench/reporting/direction.py`.
        source: where the protocol and the metric are defined.
        fits: whether the task trains a head (then fractions and seeds matter) or is zero-shot.
        order: place of its columns in a leaderboard; small numbers come first.
    """

    needs: tuple[str, ...]
    annotations: tuple[str, ...]
    protocols: tuple[str, ...]
    metric: str
    source: str
    fits: bool = True
    order: int = 100

    def __post_init__(self) -> None:
        _check_subset(self.name, "capabilities", self.needs, CAPABILITIES)
        _check_subset(self.name, "annotations", self.annotations, ANNOTATIONS)


@dataclass(frozen=True, kw_only=True)
class DatasetCard(Card):
    """A data set in its official layout.

    Attributes:
        offers: subset of ANNOTATIONS; findings: label names in their official order.
        url: where to get it; licence: its terms; layout: files that its root folder must contain.
        exclusive: whether every image has exactly one of the findings, so that the labels are
            classes: softmax and accuracy instead of one sigmoid for each finding.
        phrases: whether a box's finding is a phrase of the report, not a label (MS-CXR).
        embedded: whether the data are generated and need no root folder.
        options: keys for `data prepare --option KEY=VALUE`; the reader is then
            `read(root, options)`.
        generic: whether this is a layout for the user's own data, named by `--name`; such a reader
            also has `describe(root, options)`, which returns the card of the data in root.
    """

    offers: tuple[str, ...]
    findings: tuple[str, ...]
    url: str
    licence: str
    layout: tuple[str, ...] = ()
    exclusive: bool = False
    phrases: bool = False
    embedded: bool = False
    options: tuple[str, ...] = ()
    generic: bool = False

    def __post_init__(self) -> None:
        _check_subset(self.name, "annotations", self.offers, ANNOTATIONS)


@dataclass(frozen=True, kw_only=True)
class MethodCard(Card):
    """A pre-training method; capabilities: of the model that it produces."""

    paper: str
    capabilities: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_subset(self.name, "capabilities", self.capabilities, CAPABILITIES)
