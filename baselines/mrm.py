"""MRM: masked images and masked reports, restored together (Zhou et al., ICLR 2023).

Shapes: B batch, S input side, D = 768, h w the patch grid.
Source: RL4M/MRM-pytorch at 3730ba4. SOURCE is the released `MRM.pth`, whose decoders of pixels and
reports are left out: it has no shared space of images and texts.

There are two kinds of frozen features. `pooled` is what the original's fine-tuning starts from: the
mean of the patches before the trained final norm, then a layer norm of weight 1 and bias 0, which
is not in the file (`fc_norm`). The feature map is the patches after the trained norm.
"""

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from g2dbench.cards import ModelCard
from g2dbench.errors import Misuse
from g2dbench.model import Identity, Model
from g2dbench.preprocess import Preprocess
from g2dbench.pretrained.image.vit import make_vit, patch_grid
from g2dbench.pretrained.layouts import strip_to, strip_wrappers, without
from g2dbench.pretrained.weights import digest, find_state, load_state, read_weights

CARD = ModelCard(
    name="mrm",
    summary="MRM: ViT-B/16 trained to restore masked images and reports",
    paper="Zhou et al., Advancing Radiograph Representation Learning with Masked Record Modeling, "
    "ICLR 2023, arXiv 2301.13155",
    source="github.com/RL4M/MRM-pytorch (README: Google Drive, MRM.pth)",
    licence="MIT",
    capabilities=("features",),
    trained_on=("mimic_cxr",),
    signature=("patch_embed.proj.weight", "decoder_pred.weight", "bert_mlp.weight"),
    files=("MRM.pth",),
    input_size=224,
    tested_with=("torch 2.14", "timm 1.0.31"),
    openness="weights, code and licence public; data by agreement; no list of training images",
    notes=(
        "Pooled features are an untrained layer norm of the mean of the patches, as its "
        "fine-tuning starts; the trained norm is in the feature map alone.",
    ),
)

_MEAN, _STD, _EPSILON = 0.4978, 0.2449, 1e-6
_UNUSED_KEYS = (
    r"^decoder_",
    r"^mask_token$",
    r"^bert_encoder\.",
    r"^bert_mlp\.",
    r"^head\.",
)
"""Keys of the decoders of pixels and reports, and of a classifier."""


class MRM(Model):
    """MRM's image encoder."""

    card = CARD
    preprocess = Preprocess(size=224, fit="crop", mean=(_MEAN,) * 3, std=(_STD,) * 3)
    fixed_size = True

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.channels, self.strides = (trunk.embed_dim,), (trunk.patch_embed.patch_size[0],)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one map of patch tokens, after the trained norm."""
        return [patch_grid(self.trunk, images)]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D): layer norm, not trained, of the mean of the last block's patches.

        Source: NIH_ChestX-ray/models_vit.py, forward_features with `global_pool`.
        """
        tokens = self.trunk.forward_intermediates(
            images, indices=1, norm=False, output_fmt="NLC", intermediates_only=True
        )[0]
        return F.layer_norm(tokens.mean(dim=1), tokens.shape[-1:], eps=_EPSILON)


def load(source: str | None, seed: int) -> MRM:
    """MRM from its file; `seed` is unused.

    Raises Misuse without a source, BadCheckpoint for a file that does not fit.
    """
    if source is None:
        raise Misuse(f"mrm needs its weights: --model mrm:FILE, FILE of {CARD.source}")
    file = Path(source).expanduser()
    state = strip_wrappers(find_state(read_weights(file), file), file)
    state = without(strip_to(state, "patch_embed.proj.weight", file), _UNUSED_KEYS)
    trunk = make_vit(state, "", file)
    load_state(trunk, state, file)
    model = MRM(trunk)
    model.identity = Identity("mrm", digest(model))
    return model.eval()
