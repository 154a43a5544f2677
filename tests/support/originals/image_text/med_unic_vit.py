"""Med-UniC with a vision transformer; zero-shot/utils_builder_med_unic_vit.py."""

from pathlib import Path

import timm
from torch import Tensor

from support.originals import seeded
from support.originals.image_text import med_unic

CARD, CHECKOUT, COMMIT = med_unic.CARD, med_unic.CHECKOUT, med_unic.COMMIT
HAS_PUBLIC_VOCABULARY = False
ours, thinned = med_unic.ours, med_unic.thinned
VIT_WIDTH, DEPTH, HEADS = 128, 2, 2


def state() -> dict[str, Tensor]:
    """As with a ResNet; its class has no discriminator of languages."""
    trunk = timm.models.VisionTransformer(
        embed_dim=VIT_WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0, global_pool="token"
    )
    layout = med_unic.layout(trunk, VIT_WIDTH)
    return seeded.fill({k: v for k, v in layout.items() if "Language_discriminator" not in k})


def write(folder: Path) -> Path:
    return med_unic.write_state(folder, state())


def original(checkout: Path) -> dict[str, Tensor]:
    """As `med_unic.original`; its ViT is made smaller, and MAE's weights are not read."""
    plain = {k: v for k, v in state().items() if k.startswith("encoder.")}
    trunk = {"model": {key.removeprefix("encoder."): value for key, value in plain.items()}}
    with med_unic.opened(checkout, trunk) as (load, args):
        module = load("utils_builder_med_unic_vit")
        sizes = {"embed_dim": VIT_WIDTH, "depth": DEPTH, "num_heads": HEADS}
        module.create_vit = lambda *_: (load("vits").VisionTransformer(224, 16, **sizes), VIT_WIDTH)
        return med_unic.run(load, module.ResNet_CXRBert(args), state())
