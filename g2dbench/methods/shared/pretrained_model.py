"""The model that a method trains: embeds, gives features, locates.

Shapes: B images, S image side, T texts, C channels, D width of the shared space, h w grid.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.methods.shared.two_towers import ImageEncoderMethod, TwoTowers
from g2dbench.model import Grounding, Model

_TEXTS_AT_ONCE = 64


class PretrainedImageModel(Model):
    """The image encoder of a trained method, with which it shares its weights."""

    def __init__(self, towers: ImageEncoderMethod) -> None:
        super().__init__()
        self.towers = towers
        self.preprocess = towers.preprocess
        self.channels = towers.channels
        self.strides = towers.strides
        self.fixed_size = False

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps from stride 2 on, fine to coarse."""
        return self.towers.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): mean of the encoder's last map, without projector.

        This is the input of the papers' linear probe, C = 2048 for a ResNet-50.
        """
        return self.towers.pyramid(images)[-1].mean((2, 3))


class PretrainedImageTextModel(PretrainedImageModel):
    """A trained method with a shared space of images and reports.

    It locates texts as BioViL does, by the cosine between projected pixels and projected prompt;
    the publications give no threshold.
    """

    towers: TwoTowers

    def __init__(self, towers: TwoTowers) -> None:
        super().__init__(towers)
        self.grounding = Grounding("bilinear", None)

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1, fp32."""
        embedded = self.towers.embed_pyramid(self.towers.pyramid(images))
        return F.normalize(embedded.float(), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts, truncated at `max_length` -> (T, D), each row of length 1, fp32."""
        return self._encode_texts(self.towers.text, texts)

    def embed_prompts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1, fp32: what `locate` compares with the pixels."""
        return self.embed_texts(texts)

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosines, fp32."""
        pixels = F.normalize(self.towers.dense(self.towers.pyramid(images)).float(), dim=1)
        return along_prompts(pixels, self.embed_prompts(texts))

    def _encode_texts(
        self, encode: Callable[[Tensor, Tensor], Tensor], texts: Sequence[str]
    ) -> Tensor:
        """T texts -> (T, D), encoded in batches; rows of length 1, fp32."""
        device = next(self.parameters()).device
        rows = []
        for at in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens, attention = self.towers.tokenize(texts[at : at + _TEXTS_AT_ONCE])
            rows.append(encode(tokens.to(device), attention.to(device)).float())
        return F.normalize(torch.cat(rows), dim=-1)


def along_prompts(pixels: Tensor, prompts: Tensor) -> Tensor:
    """Embedded pixels (B, D, h, w), prompts (T, D) -> their dot products (B, T, h, w), fp32."""
    with torch.autocast(pixels.device.type, enabled=False):
        return torch.einsum("bdhw,td->bthw", pixels.float(), prompts.float())
