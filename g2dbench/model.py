"""What a model can do. A model is an `nn.Module` with a card, its preprocessing, and abilities.

Shapes: B batch, C channels, S input side, D width of the shared space, T texts, h w grid.
Each ability is a small protocol; a model implements those it has and nothing else, and a task asks
with `isinstance`. Inputs are made by the model's own `preprocess`, on the model's device. Callers
hold `torch.no_grad()` and eval mode; no method depends on the other images of its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from g2dbench.cards import ModelCard
from g2dbench.preprocess import Preprocess, Resampling


@dataclass(frozen=True)
class Identity:
    """Which weights these are.

    label: the leaderboard's row; several pre-training seeds share one. seed: the pre-training seed,
    None for published weights. digest: SHA-256 over names, shapes and bytes of the state_dict.
    source: what the user asked for (`--model`), which tells two models of one label apart.
    """

    label: str
    digest: str
    seed: int | None = None
    source: str = ""


class Model(nn.Module):
    """Base of every model: its card, its preprocessing, and which weights it holds."""

    card: ModelCard
    preprocess: Preprocess
    identity: Identity


@runtime_checkable
class Embeds(Protocol):
    """Image and text in one cosine space."""

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, D), each row of length 1."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1."""
        ...


@runtime_checkable
class Features(Protocol):
    """An image encoder whose maps can be reused.

    `channels` and `strides` describe the pyramid, fine to coarse; strides are powers of two. Any
    square input whose side is a multiple of the last stride is accepted unless `fixed_size`.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    fixed_size: bool

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, C, S, S) -> [(B, channels[i], S / strides[i], S / strides[i])]."""
        ...

    def pooled(self, images: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, D'): the representation that the paper's linear probe uses."""
        ...


@dataclass(frozen=True)
class Grounding:
    """How a model's published pipeline turns its map into a region.

    threshold of None: the publication gives none. resampling: from the grid to the image.
    """

    resampling: Resampling = "bilinear"
    threshold: float | None = None


@runtime_checkable
class Locates(Protocol):
    """Where in the image a text is: one map per text over the input square."""

    grounding: Grounding

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, C, S, S), T texts -> (B, T, h, w); higher is more alike."""
        ...


@runtime_checkable
class Matches(Protocol):
    """How probable a named finding is, without a shared space."""

    def match(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """(B, C, S, S), T finding names -> (B, T) in [0, 1]."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """A pre-trained segmentation decoder that transfers along with the encoder."""

    def pretrained_decoder(self) -> nn.Module:
        """A fresh copy of the decoder: `features` pyramid -> (B, 1, S, S) logits."""
        ...


@runtime_checkable
class Shows(Protocol):
    """What a model makes of an image on its way, for people to look at; no task asks for it."""

    def panels(self, images: Tensor, reports: Sequence[str] | None) -> dict[str, Tensor]:
        """(B, C, S, S) -> maps over the input square by name, each (B, h, w) in [0, 1].

        reports: one per image, for maps that are made from them; None where there are none.
        """
        ...


_PROTOCOLS: dict[str, type] = {
    "embeds": Embeds,
    "features": Features,
    "locates": Locates,
    "matches": Matches,
    "decodes": Decodes,
}


def capabilities(model: nn.Module) -> tuple[str, ...]:
    """The capabilities that a loaded model really has, in the order of `cards.CAPABILITIES`."""
    return tuple(name for name, protocol in _PROTOCOLS.items() if isinstance(model, protocol))


class Baseline(Protocol):
    """What a file in `baselines/` exports."""

    CARD: ModelCard

    def load(self, source: str | None, seed: int) -> Model:
        """A ready model in eval mode on the CPU, its `identity` set.

        source: what stands after the colon of `--model NAME:SOURCE`: a file, a folder or a hub id.
        seed: starts what the source does not give (random-init); otherwise ignored.
        Raises BadCheckpoint for weights that do not fit, Misuse for a missing or needless source.
        """
        ...
