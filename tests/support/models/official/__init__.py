"""Sources of the published sizes with random weights, to measure what each model costs.

benchmarks/model_cost.py measures them. A model that is not listed has a row that says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.models.official import clip_towers, image_encoders, seeded_releases, with_bert
from support.models.small_baselines import make_encoder


@dataclass(frozen=True)
class Official:
    """size: of the image encoder in words. write: fills a folder, returns SOURCE."""

    size: str
    write: Callable[[Path], object]


OFFICIAL: dict[str, Official] = {
    "afloc": Official("ResNet-50", seeded_releases.afloc),
    "alta": Official("ViT-B/16 with adapters", seeded_releases.alta),
    "ark": Official("Swin-L", image_encoders.ark),
    "benchx": Official("ResNet-50 (ConVIRT's file)", image_encoders.benchx),
    "biomedclip": Official("ViT-B/16", clip_towers.biomedclip),
    "biovil": Official("ResNet-50", with_bert.biovil),
    "biovil-t": Official("ResNet-50 and pooler", with_bert.biovil_t),
    "carzero": Official("ViT-B/16", seeded_releases.carzero),
    "chance": Official("none", lambda folder: None),
    "chexfound": Official("ViT-L/16", image_encoders.chexfound),
    "chexzero": Official("ViT-B/32", clip_towers.chexzero),
    "convirt": Official("ResNet-50", with_bert.convirt),
    "cxr-clip": Official("ResNet-50", with_bert.cxr_clip),
    "ecamp": Official("ViT-B/16", image_encoders.ecamp),
    "encoder": Official("ViT-B/16", lambda folder: make_encoder(folder, "vit_base_patch16_224")),
    "eva-x": Official("ViT-B/16", image_encoders.eva_x),
    "g2d": Official("ResNet-50 (and decoder, without texts)", with_bert.g2d),
    "gloria": Official("ResNet-50", with_bert.gloria),
    "gloria-mimic": Official("ResNet-50", with_bert.gloria),
    "hf_clip": Official("ViT-B/32", clip_towers.hf_clip),
    "hf_vit": Official("ViT-B/16", image_encoders.hf_vit),
    "imagenet": Official("ResNet-50", lambda folder: make_encoder(folder, "resnet50")),
    "kad": Official("ResNet-50", with_bert.kad),
    "maco": Official("ViT-B/16", with_bert.maco),
    "mavl": Official("ResNet-50 to layer 3", seeded_releases.mavl),
    "med-unic": Official("ResNet-50 (BERT without Spanish words)", seeded_releases.med_unic),
    "medclip": Official("ResNet-50", with_bert.medclip),
    "medimageinsight": Official("DaViT of widths 256 to 2048", clip_towers.medimageinsight),
    "medklip": Official("ResNet-50", with_bert.medklip),
    "medsiglip": Official("ViT-So400m/14", clip_towers.medsiglip),
    "mflag": Official("ResNet-50", with_bert.mflag_total),
    "mgca": Official("ViT-B/16", with_bert.mgca),
    "mrm": Official("ViT-B/16", image_encoders.mrm),
    "open_clip": Official("ViT-B/32", clip_towers.open_clip_folder),
    "prior": Official("ResNet-50", seeded_releases.prior),
    "ptunifier": Official("ViT-B/16 of 11 blocks", image_encoders.ptunifier),
    "rad-dino": Official("ViT-B/14", image_encoders.dinov2),
    "radzero": Official("ViT-B/14 and 2 layers", seeded_releases.radzero),
    "random-init": Official("ResNet-18", lambda folder: None),
    "refers": Official("ViT-B/16", image_encoders.refers),
    "torchxrayvision": Official("DenseNet-121", image_encoders.torchxrayvision),
    "unimed-clip": Official("ViT-B/16", clip_towers.unimed_clip),
    "xrayclip": Official("ViT-B/16", clip_towers.xrayclip),
    "xraydino": Official("ViT-B/14", image_encoders.dinov2),
}
"""Model -> its published size; of several sizes, the one that its authors name first."""
