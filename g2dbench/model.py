"""The interface of a model: an `nn.Module` with a card, its preprocessing, and capabilities.

Shapes: B batch, C channels, S input side, D width of the shared space, T texts, h w grid.
Each capability is a small protocol; a model implements those it has, and a task checks them with
`isinstance`. Inputs come from the model's own `preprocess` and are on the model's device. Callers
set `torch.no_grad()` and eval mode; no output depends on the other images of its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from g2dbench.cards import ModelCard, TaskCard
from g2dbench.errors import Unsupported
from g2dbench.preprocess import Preprocess, Resampling
from g2dbench.sample import Sample


@dataclass(frozen=True)
class Identity:
    """Identifies the weights of a model.

    label: row of the leaderboard, shared by several pre-training seeds. seed: the pre-training
    seed, None for published weights. digest: SHA-256 over names, shapes and bytes of the
    state_dict; g2dbench computes it on loading and overwrites any value that a wrapper sets.
    source: what the user asked for (`--model`), which tells two models of one label apart.
    """

    label: str
    digest: str = ""
    seed: int | None = None
    source: str = ""


class Model(nn.Module):
    """Base class of all models: card, preprocessing, and the identity of the weights."""

    card: ModelCard
    preprocess: Preprocess
    identity: Identity


@runtime_checkable
class Embeds(Protocol):
    """Embeds images and texts in one space that is compared by cosine."""

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, D), each row of length 1."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        ...


@runtime_checkable
class ProjectsTexts(Protocol):
    """Gives text embeddings before they are scaled to length 1; optional, beside `Embeds`.

    BioViL averages prompts so. For other models, averages are over rows of length 1.
    """

    def project_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), of any length; `embed_texts` is these rows scaled to length 1."""
        ...


@runtime_checkable
class Features(Protocol):
    """Has an image encoder with reusable feature maps.

    `channels` and `strides` describe the feature pyramid, fine to coarse; strides are powers of
    two. Unless `fixed_size`, any square input is accepted whose side is a multiple of the last
    stride.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    fixed_size: bool

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, C, S, S) -> [(B, channels[i], S / strides[i], S / strides[i])]."""
        ...

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, D'): the representation for the paper's linear probe."""
        ...


@dataclass(frozen=True)
class Grounding:
    """How a model's published pipeline turns its map into a region.

    resampling: from the grid to the image. threshold: None if the publication gives none.
    """

    resampling: Resampling = "bilinear"
    threshold: float | None = None


@runtime_checkable
class Locates(Protocol):
    """Locates a text in the image: one map per text over the input square."""

    grounding: Grounding

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, C, S, S), T texts -> (B, T, h, w); higher is more similar."""
        ...


@runtime_checkable
class Matches(Protocol):
    """Gives the probability of a named finding, without a shared space.

    A model whose authors decode all findings together, so that one changes another, states it by
    the attribute `matches_jointly = True`.
    """

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, C, S, S), T finding names -> (B, T) in [0, 1]."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Has a pre-trained segmentation decoder that transfers together with the encoder."""

    def pretrained_decoder(self) -> nn.Module:
        """A copy of the decoder: `features` pyramid -> (B, 1, S, S) logits."""
        ...


@runtime_checkable
class Shows(Protocol):
    """Shows intermediate maps of an image, for figures and the task `attention`."""

    def panels(self, images: Tensor, reports: Sequence[str] | None) -> dict[str, Tensor]:
        """(B, C, S, S) -> maps over the input square by name, each (B, h, w) in [0, 1].

        reports: one per image, for maps that depend on them; None if there are none.
        """
        ...


@runtime_checkable
class ReadsSamples(Protocol):
    """Makes its input from whole samples instead of pixels: stored embeddings are found by id.

    Tasks pass what `inputs` returns to the model's other methods, in place of images.
    """

    def inputs(self, samples: Sequence[Sample]) -> Tensor:
        """B samples -> (B, ...) with four dimensions; BadData for a sample without input."""
        ...


_PROTOCOLS: dict[str, type] = {
    "embeds": Embeds,
    "features": Features,
    "locates": Locates,
    "matches": Matches,
    "decodes": Decodes,
}


def capabilities(model: nn.Module) -> tuple[str, ...]:
    """The capabilities that a loaded model implements, in the order of `cards.CAPABILITIES`."""
    return tuple(name for name, protocol in _PROTOCOLS.items() if isinstance(model, protocol))


def missing_capability(model: Model, card: TaskCard) -> Unsupported:
    """The error for a model that lacks the capability that a task needs."""
    offered = ", ".join(capabilities(model)) or "none of the capabilities"
    return Unsupported(
        f"{card.name} needs a model that offers {' or '.join(card.needs)}; "
        f"{model.identity.label} offers {offered}"
    )


def require_pixels(model: Model, why: str) -> None:
    """Unsupported for a model whose outputs are stored by image id: no changed image changes them.

    why: what is done with the pixels, the end of "..., but ".
    """
    if isinstance(model, ReadsSamples):
        raise Unsupported(f"{model.identity.label} has stored outputs by image id, but {why}")


class Baseline(Protocol):
    """The interface of a file in `baselines/`."""

    CARD: ModelCard

    def load(self, source: str | None, seed: int) -> Model:
        """Load the model, in eval mode on the CPU, with its `identity` set.

        source: the text after the colon of `--model NAME:SOURCE`: a file, a folder or a hub id.
        seed: for weights that are not loaded (random-init); otherwise ignored.
        Raises BadCheckpoint for weights that do not fit, Misuse for a missing or unused source.
        """
        ...
