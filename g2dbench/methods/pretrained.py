"""The model that a contrastive method leaves behind: embeds, gives features, locates.

Shapes: B images, S image side, T texts, C channels, D width of the shared space, h w grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.methods.towers import Towers
from g2dbench.model import Grounding, Model

_TEXTS_AT_ONCE = 64


class Pretrained(Model):
    """A trained method, evaluated; it holds the method itself, so weights are shared.

    locate: BioViL's pipeline: cosine between the projected pixels and the projected prompt; the
    publications give no threshold.
    """

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers
        self.preprocess = towers.preprocess
        self.channels = towers.channels
        self.strides = towers.strides
        self.fixed_size = False
        self.grounding = Grounding("bilinear", None)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the encoder's maps of strides 2 to 32, fine to coarse."""
        return self.towers.pyramid(images)

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C): mean over the pixels of the encoder's last map, unprojected.

        2048 wide for a ResNet-50: what the linear probe of the papers stands on.
        """
        return self.towers.pyramid(images)[-1].mean((2, 3))

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D), each row of length 1, fp32."""
        embedded = self.towers.embed_pyramid(self.towers.pyramid(images))
        return F.normalize(embedded.float(), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """T texts -> (T, D), each row of length 1, fp32; longer ones are cut at `max_length`."""
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        return torch.cat([self._texts(texts[at : at + _TEXTS_AT_ONCE]) for at in starts])

    def locate(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, 3, S, S), T texts -> (B, T, h, w) cosines, fp32."""
        pixels = F.normalize(self.towers.dense(self.towers.pyramid(images)).float(), dim=1)
        prompts = self.embed_texts(texts)
        with torch.autocast(images.device.type, enabled=False):
            return torch.einsum("bdhw,td->bthw", pixels, prompts)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        device = next(self.parameters()).device
        tokens, attention = self.towers.tokenize(texts)
        return F.normalize(
            self.towers.text(tokens.to(device), attention.to(device)).float(), dim=-1
        )
