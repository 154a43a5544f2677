"""The modules of `support.originals` that describe a model."""

NAMES = ("chexzero", "gloria", "mgca", "mgca_vit")
