"""One small source for every registered model: a file with seeded weights in its official layout.

The tests of every model run on these: the contract (tests/baselines/test_contract.py), and the
matrix of models and tasks (tests/baselines/test_matrix.py). A new model is one file here that
writes its source, and one line in FACTORIES.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from support.models import embeddings
from support.models.encoder_releases import ENCODERS
from support.models.image_encoders import ark, chexfound, eva_x, torchxrayvision
from support.models.image_text import biovil_t, towers_with_bert
from support.models.small_baselines import (
    OPEN_CLIPS,
    make_biomedclip,
    make_encoder,
    make_hf_clip,
    make_hf_siglip,
    make_open_clip,
    make_open_clip_bert,
)
from support.models.small_encoders import make_rad_dino, make_vision
from support.models.small_releases import make_biovil, make_g2d, make_medklip
from support.models.text_releases import WITH_TEXT
from support.originals import chexzero, convirt_benchx, gloria, kad, mflag, mgca_vit, mrm
from support.originals.image_text import afloc, alta, carzero, mavl, med_unic_vit, prior, radzero

Write = Callable[[Path], object]
"""Fills a folder that need not exist, and returns SOURCE of `--model NAME:SOURCE`."""


def nothing(folder: Path) -> None:
    """The source of a model that needs none."""


WHOLE = [kind for kind in OPEN_CLIPS if kind not in ("one_patch", "learned_positions")]
"""The variants that can do all that the card says."""

FACTORIES: dict[str, tuple[str, Write]] = {
    # image encoders
    "ark": ("ark", ark.write),
    "chexfound": ("chexfound", chexfound.write),
    "encoder-cnn": ("encoder", partial(make_encoder, name="test_resnet")),
    "encoder-vit": ("encoder", make_encoder),
    "eva-x": ("eva-x", eva_x.write),
    "eva-x-base": ("eva-x", partial(eva_x.write, size="base")),
    "hf_vit": ("hf_vit", partial(make_vision, kind="vit")),
    "hf_vit-dinov3": ("hf_vit", partial(make_vision, kind="dinov3_vit")),
    "imagenet": ("imagenet", partial(make_encoder, name="test_resnet")),
    "mrm": ("mrm", mrm.write),
    "rad-dino": ("rad-dino", make_rad_dino),
    "torchxrayvision": ("torchxrayvision", torchxrayvision.write),
    "torchxrayvision-resnet": (
        "torchxrayvision",
        partial(torchxrayvision.write_resnet, head=1e-3),
    ),
    "xraydino": ("xraydino", partial(make_vision, kind="dinov2")),
    # images and texts
    "biomedclip": ("biomedclip", make_biomedclip),
    "biovil": ("biovil", make_biovil),
    "biovil-t": ("biovil-t", biovil_t.write),
    "chexzero": ("chexzero", chexzero.write),
    "convirt": ("convirt", convirt_benchx.write),
    "cxr-clip": ("cxr-clip", partial(towers_with_bert.write, case="cxr_clip_r50")),
    "cxr-clip-swin": ("cxr-clip", partial(towers_with_bert.write, case="cxr_clip_swin")),
    "g2d": ("g2d", make_g2d),
    "gloria": ("gloria", gloria.write),
    "gloria-mimic": ("gloria-mimic", gloria.write),
    "hf-clip": ("hf_clip", make_hf_clip),
    "hf-siglip": ("hf_clip", make_hf_siglip),
    "kad": ("kad", kad.write),
    "medclip": ("medclip", partial(towers_with_bert.write, case="medclip_r50")),
    "medclip-swin": ("medclip", partial(towers_with_bert.write, case="medclip_swin")),
    "medklip": ("medklip", make_medklip),
    "medsiglip": ("medsiglip", make_hf_siglip),
    "mflag": ("mflag", mflag.write),
    "mgca": ("mgca", mgca_vit.write),
    "open_clip-bert": ("open_clip", make_open_clip_bert),
    **{f"open_clip-{k}": ("open_clip", partial(make_open_clip, kind=k)) for k in WHOLE},
    "xrayclip": ("xrayclip", make_hf_clip),
    "xraysiglip": ("xrayclip", make_hf_siglip),
    "afloc": ("afloc", afloc.write),
    "alta": ("alta", alta.write),
    "carzero": ("carzero", carzero.write),
    "mavl": ("mavl", mavl.write),
    "med-unic": ("med-unic", med_unic_vit.write),
    "prior": ("prior", prior.write),
    "radzero": ("radzero", radzero.write),
    # without weights
    "chance": ("chance", nothing),
    "embeddings": ("embeddings", embeddings.write),
    "random-init": ("random-init", nothing),
    **ENCODERS,
    **WITH_TEXT,
}
"""Name of a case -> the card, and what writes its source. The first case of a card is small."""
