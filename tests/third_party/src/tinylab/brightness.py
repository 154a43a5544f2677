"""A model in one file: the mean brightness of a 4 x 4 grid, as one feature vector."""

import torch
from torch.nn import functional as F

from g2dbench import Identity, Model, ModelCard, Preprocess

CARD = ModelCard(
    name="brightness",
    summary="Mean brightness of a 4 x 4 grid.",
    paper="none",
    source="tests/third_party",
    licence="Apache-2.0",
    capabilities=("features",),
    needs_weights=False,
    source_kind="",
)


class Brightness(Model):
    card = CARD
    preprocess = Preprocess(size=32, channels=1)
    identity = Identity("brightness")
    channels, strides, fixed_size = (1,), (8,), False

    def features(self, images):
        return [F.avg_pool2d(images, 8)]

    def pooled(self, images):
        return self.features(images)[0].flatten(1)


def load(source, seed):
    return Brightness().eval()


assert torch.__version__
