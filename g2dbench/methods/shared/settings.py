"""The typed `[model]` table of a recipe: encoders, projectors, contrastive loss, decoder."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from g2dbench.errors import Misuse
from g2dbench.field_errors import sentences
from g2dbench.preprocess import Fit, Preprocess, Resampling
from g2dbench.pretrained.text.tokenizer import DEFAULT_VOCAB_SIZE, SCRATCH, Padding
from g2dbench.registry import unknown_name

Width = Annotated[int, Field(ge=1)]
Option = bool | int | float | list[int] | list[float]
"""An option of an encoder; text is excluded, since it could name a file to load."""


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageSettings(Settings):
    """`[model.image]`: encoder and input; the last seven keys are those of `Preprocess`.

    depth: the encoder's last map has stride 2^depth.
    options: further arguments of a timm encoder ("tu-..."), such as "channels" of the four stages
    of a ResNet.
    weights: "" for random ones, a set that smp publishes ("imagenet"), or a file.
    """

    encoder: str = "resnet50"
    depth: int = Field(default=5, ge=2, le=5)
    options: dict[str, Option] = {}
    weights: str = ""
    size: int = Field(default=224, ge=32, multiple_of=32)
    fit: Fit = "stretch"
    resize: int | None = Field(default=None, ge=32)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resampling: Resampling = "bilinear"
    intensity: Literal["as_is", "minmax"] = "as_is"

    @model_validator(mode="after")
    def _takes(self) -> "ImageSettings":
        if self.options and not self.encoder.startswith("tu-"):
            raise ValueError(
                f"only timm's encoders accept options, smp's {self.encoder!r} does not: use "
                f"encoder = 'tu-{self.encoder}', or leave the options out"
            )
        return self

    @model_validator(mode="after")
    def _planes(self) -> "ImageSettings":
        if len(self.mean) not in (1, 3) or len(self.std) not in (1, 3) or min(self.std) <= 0:
            raise ValueError("mean and std must have one or three values, those of std above 0")
        return self

    def preprocess(self) -> Preprocess:
        """The preprocessing that turns a radiograph into the encoder's input."""
        return Preprocess(**self.model_dump(exclude={"encoder", "depth", "options", "weights"}))


class TextSettings(Settings):
    """`[model.text]`: tokenizer, BERT, and the pooling of its tokens.

    source: "scratch" (random weights), a folder, or a hub id; the sizes from `layers` to
    `positions` are used only with "scratch". feed_forward: 0 is four times `hidden`; positions: 0
    is `max_length`. dropout: of every layer, for any source; 0 corresponds to G2D's released code,
    which leaves its BERT in evaluation mode.
    padding: of training batches and prompts. pool: the [CLS] token, or the mean of all tokens
    except padding. project: the pooled vector, or every token before pooling (including padding,
    which enters the batch norm, as in G2D's released code).
    frozen_layers: number of first layers that are frozen, -1 for all. frozen_mode: mode of the
    frozen part during training; "eval" means no dropout.
    frozen_cache: MiB for cached outputs of the frozen part, one per report; 0 for no cache.
    buckets: number of groups by length in which the reports of a batch are padded and encoded; the
    contrastive batch stays the same.
    """

    source: str = SCRATCH
    vocab_size: int = Field(default=DEFAULT_VOCAB_SIZE, ge=6)
    layers: int = Field(default=4, ge=1)
    hidden: int = Field(default=256, ge=1)
    heads: int = Field(default=4, ge=1)
    feed_forward: int = Field(default=0, ge=0)
    positions: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    max_length: int = Field(default=128, ge=3)
    padding: Padding = "longest"
    pool: Literal["cls", "mean"] = "cls"
    project: Literal["pooled", "tokens"] = "pooled"
    frozen_layers: int = Field(default=0, ge=-1)
    frozen_embeddings: bool = False
    frozen_mode: Literal["train", "eval"] = "train"
    frozen_cache: int = Field(default=0, ge=0)
    buckets: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> "TextSettings":
        if self.source == SCRATCH and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _same_outcome(self) -> "TextSettings":
        """Options that save time must not change the training."""
        constant = self.frozen_layers and self.frozen_embeddings and self.frozen_mode == "eval"
        if self.frozen_cache and not constant:
            raise ValueError(
                "frozen_cache needs a constant output: frozen_layers above 0, "
                'frozen_embeddings = true and frozen_mode = "eval"'
            )
        if (self.frozen_cache or self.buckets > 1) and self.project == "tokens":
            raise ValueError(
                'project "tokens" reads the padding, which frozen_cache and buckets leave out: '
                'use project = "pooled", or frozen_cache = 0 and buckets = 1'
            )
        return self


class ProjectorSettings(Settings):
    """`[model.projector]`: linear, ReLU, linear, into the shared space.

    hidden: 0 is the width of the shared space, -1 the width of the input.
    norm: before the ReLU. "batch": batch norm without affine, and linear layers without bias (G2D's
    released code); "layer": layer norm; "none": no norm, with biases (ConVIRT); "both": biases, a
    batch norm, and another without affine after the last layer (MGCA, M-FLAG).
    """

    hidden: int = Field(default=0, ge=-1)
    norm: Literal["batch", "layer", "none", "both"] = "batch"


class ContrastiveSettings(Settings):
    """`[model.contrastive]`: cross-entropy over cosines divided by the temperature.

    image_to_text, text_to_image: weights of the two directions. learned: whether the temperature
    is learned (with an inverse of at most 100, as in CLIP). negatives: of this device ("local"), or
    of all devices ("gathered").
    """

    temperature: float = Field(default=0.07, gt=0)
    learned: bool = False
    image_to_text: float = Field(default=0.5, ge=0)
    text_to_image: float = Field(default=0.5, ge=0)
    negatives: Literal["gathered", "local"] = "gathered"

    @model_validator(mode="after")
    def _some_direction(self) -> "ContrastiveSettings":
        if self.image_to_text + self.text_to_image == 0:
            raise ValueError("image_to_text and text_to_image are both 0")
        return self


class InputSettings(Settings):
    """Settings of a method with an image encoder, a text encoder and a shared space of `width`."""

    width: int = Field(default=128, ge=1)
    image: ImageSettings = ImageSettings()
    text: TextSettings = TextSettings()


class ProjectedSettings(InputSettings):
    """`InputSettings` with a projector behind each encoder."""

    projector: ProjectorSettings = ProjectorSettings()


class TowerSettings(ProjectedSettings):
    """`ProjectedSettings` with a contrastive loss."""

    contrastive: ContrastiveSettings = ContrastiveSettings()


class DecoderSettings(Settings):
    """`[model.decoder]`: the U-Net decoder.

    channels: one value per block, from coarse to fine (stride 1), as many as `image.depth`; the
    default is that of smp and G2D.
    """

    channels: tuple[Width, ...] = (256, 128, 64, 32, 16)

    def check(self, image: ImageSettings) -> None:
        """Raise ValueError unless the decoder has `image.depth` blocks."""
        if len(self.channels) != image.depth:
            raise ValueError(
                f"decoder.channels has {len(self.channels)} values, but image.depth = "
                f"{image.depth} needs {image.depth}: one per halving of the encoder"
            )


def check_stride(name: str, stride: int, image: ImageSettings) -> None:
    """Raise ValueError if the encoder has no map of this stride; name: of the setting."""
    if stride > 2**image.depth:
        raise ValueError(
            f"{name} is {stride}, but the last map of an encoder with image.depth {image.depth} "
            f"has stride {2**image.depth}"
        )


T = TypeVar("T", bound=Settings)


def read_settings(kind: type[T], table: Mapping[str, Any]) -> T:
    """Parse a recipe's `[model]` table; raises Misuse with the key, its value and the reason."""

    def unknown(path: Sequence[str]) -> str:
        table = ".".join(["model", *path[:-1]])
        return unknown_name(f"setting of [{table}]", path[-1], _at(kind, path[:-1]))

    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise Misuse(sentences(error, unknown, inside=("model",))) from error


def _at(kind: type[Settings], path: Sequence[str]) -> list[str]:
    for step in path:
        annotation = kind.model_fields[step].annotation
        assert isinstance(annotation, type)
        kind = annotation
    return list(kind.model_fields)
