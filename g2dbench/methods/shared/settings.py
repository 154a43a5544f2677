"""A recipe's `[model]` table, typed: what both towers, their projectors and the loss can be."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from g2dbench.errors import Misuse
from g2dbench.preprocess import Fit, Preprocess, Resampling
from g2dbench.pretrained.tokenizer import SCRATCH, VOCABULARY, Padding
from g2dbench.registry import unknown_name

Width = Annotated[int, Field(ge=1)]
Option = bool | int | float | list[int] | list[float]
"""Of an encoder: never text, which may name a file to load."""


class Settings(BaseModel):
    """Frozen; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageSettings(Settings):
    """`[model.image]`: encoder and input; the last seven keys are those of `Preprocess`.

    depth: halvings from the image to the encoder's last map, whose stride is 2 to this power.
    options: what else the constructor of one of timm's encoders ("tu-...") takes, as the
    "channels" of a ResNet's four stages.
    weights: "" for none, a set that smp publishes ("imagenet"), or a file.
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
                f"options are those of timm's encoders, and smp's {self.encoder!r} takes none: "
                f"encoder = 'tu-{self.encoder}', or leave them out"
            )
        return self

    @model_validator(mode="after")
    def _planes(self) -> "ImageSettings":
        if len(self.mean) not in (1, 3) or len(self.std) not in (1, 3) or min(self.std) <= 0:
            raise ValueError("mean and std have one or three values, those of std above 0")
        return self

    def preprocess(self) -> Preprocess:
        """What turns a radiograph into this encoder's input."""
        return Preprocess(**self.model_dump(exclude={"encoder", "depth", "options", "weights"}))


class TextSettings(Settings):
    """`[model.text]`: tokenizer, BERT, and which token stands for the report.

    source: "scratch", a folder, or a hub id; only "scratch" reads the sizes that follow, up to
    `positions`. dropout: of every layer, whatever the source; 0 in G2D's released code, which
    never takes its BERT out of the evaluation mode in which it was loaded.
    feed_forward: 0 is four times `hidden`; positions: 0 is `max_length`.
    padding: of training batches and prompts. pool: the [CLS] token, or the mean of all tokens
    that are no padding. project: the pooled vector, or every token (padding too, as in G2D's
    released code, where the batch norm sees them) before pooling.
    frozen_layers: the first so many do not learn, -1 for all. frozen_mode: whether the frozen part
    drops out while training, as in G2D's released code.
    frozen_cache: MiB in which the output of the frozen part is kept, once per report; 0 computes
    it in every step. buckets: parts of a batch, by length, that are padded and encoded by
    themselves; the batch's pairs stay what they are.
    """

    source: str = SCRATCH
    vocab_size: int = Field(default=VOCABULARY, ge=6)
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
            raise ValueError(f"hidden {self.hidden} is no multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _same_outcome(self) -> "TextSettings":
        """What saves work must not change what is trained."""
        constant = self.frozen_layers and self.frozen_embeddings and self.frozen_mode == "eval"
        if self.frozen_cache and not constant:
            raise ValueError(
                "frozen_cache needs an output that never changes: frozen_layers above 0, "
                'frozen_embeddings = true and frozen_mode = "eval"'
            )
        if (self.frozen_cache or self.buckets > 1) and self.project == "tokens":
            raise ValueError(
                'project "tokens" reads the padding, which frozen_cache and buckets leave out: '
                'take project = "pooled", or frozen_cache = 0 and buckets = 1'
            )
        return self


class ProjectorSettings(Settings):
    """`[model.projector]`: two linear layers with a ReLU between, into the shared space.

    hidden: 0 is the width of the shared space, -1 the width of the input.
    norm: "batch" is a batch norm without affine before the ReLU, and linear layers without bias
    (G2D's released code); "layer" a layer norm; "none" biases alone (ConVIRT); "both" biases, a
    batch norm before the ReLU and one without affine after the last layer (MGCA, M-FLAG).
    """

    hidden: int = Field(default=0, ge=-1)
    norm: Literal["batch", "layer", "none", "both"] = "batch"


class ContrastiveSettings(Settings):
    """`[model.contrastive]`: cross-entropy over cosines divided by the temperature.

    image_to_text, text_to_image: weights of the two directions. learned: the temperature is a
    parameter (its inverse kept within 100, as in CLIP). negatives: those of this device, or
    gathered from all devices.
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
    """What every method has that brings image and report into one space of `width`."""

    width: int = Field(default=128, ge=1)
    image: ImageSettings = ImageSettings()
    text: TextSettings = TextSettings()


class ProjectedSettings(InputSettings):
    """The same with a projector behind each encoder."""

    projector: ProjectorSettings = ProjectorSettings()


class TowerSettings(ProjectedSettings):
    """The same with a contrastive loss."""

    contrastive: ContrastiveSettings = ContrastiveSettings()


class DecoderSettings(Settings):
    """`[model.decoder]`: the U-Net decoder.

    channels: of its blocks, coarse to fine (stride 1), one for each halving of the encoder; smp's,
    and so G2D's, are 256 to 16.
    """

    channels: tuple[Width, ...] = (256, 128, 64, 32, 16)

    def check(self, image: ImageSettings) -> None:
        """ValueError where the decoder has not as many blocks as this encoder has halvings."""
        if len(self.channels) != image.depth:
            raise ValueError(
                f"decoder.channels has {len(self.channels)} values, image.depth is {image.depth}: "
                "the decoder doubles the map once for each halving"
            )


def check_stride(name: str, stride: int, image: ImageSettings) -> None:
    """ValueError where the setting of this name asks for a map that the encoder does not make."""
    if stride > 2**image.depth:
        raise ValueError(
            f"{name} is {stride}, but the last map of an encoder with image.depth {image.depth} "
            f"has stride {2**image.depth}"
        )


T = TypeVar("T", bound=Settings)


def read_settings(kind: type[T], table: Mapping[str, Any]) -> T:
    """The settings of a recipe's `[model]` table; Misuse names the key, its value, the way out."""
    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise Misuse("; ".join(_sentence(kind, dict(found)) for found in error.errors())) from error


def _sentence(kind: type[Settings], found: dict[str, Any]) -> str:
    path = [str(step) for step in found["loc"]]
    where = ".".join(["model", *path])
    if found["type"] == "extra_forbidden":
        parent = _at(kind, path[:-1])
        return unknown_name(f"setting of [{'.'.join(['model', *path[:-1]])}]", path[-1], parent)
    if found["type"] == "value_error":
        return f"[{where}]: {found['msg'].removeprefix('Value error, ')}"
    return f"{where} = {found['input']!r}: {found['msg']}"


def _at(kind: type[Settings], path: list[str]) -> list[str]:
    for step in path:
        annotation = kind.model_fields[step].annotation
        assert isinstance(annotation, type)
        kind = annotation
    return list(kind.model_fields)
