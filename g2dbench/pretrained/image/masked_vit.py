"""Image encoders of masked autoencoders, whose fine-tuning adds a norm that the file lacks.

Shapes: B batch, S input side, D width, N patches.

There are two kinds of frozen features. `pooled` is what their fine-tuning starts from: the mean of
the patches before the trained final norm, then a layer norm of weight 1 and bias 0, which is not in
the file (`fc_norm`). The feature map is the patches after the trained norm.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import ModelCard
from g2dbench.model import Identity
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.vit import make_vit, mean_patch
from g2dbench.pretrained.image.vit_encoder import ViTEncoder, read_source
from g2dbench.pretrained.layouts import strip_to, without
from g2dbench.pretrained.weights import digest, load_state

EPSILON = 1e-6


class MaskedViT(ViTEncoder):
    """A masked autoencoder's image encoder."""

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): layer norm, not trained, of the mean of the last block's patches.

        Source: models_vit.py of MAE and of its descendants, forward_features with `global_pool`.
        """
        mean = mean_patch(self.trunk, images)
        return F.layer_norm(mean, mean.shape[-1:], eps=EPSILON)


def load_masked_vit(
    card: ModelCard, preprocess: Preprocess, unused: Sequence[str], source: str | None
) -> MaskedViT:
    """The encoder of a masked autoencoder's file with timm's key names.

    unused: regular expressions of the decoders' keys. Raises Misuse without a source, BadCheckpoint
    for a file that does not fit.
    """
    state, file = read_source(card, source)
    state = without(strip_to(state, "patch_embed.proj.weight", file), unused)
    trunk = make_vit(state, "", file, preprocess.size)
    load_state(trunk, state, file)
    model = MaskedViT(card, preprocess, trunk)
    model.identity = Identity(card.name, digest(model))
    return model.eval()
