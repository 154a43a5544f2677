"""The modules of `support.originals` that describe a model."""

NAMES = (
    "chexzero",
    "gloria",
    "mgca",
    "mgca_vit",
    "convirt",
    "convirt_mgca",
    "convirt_benchx",
    "mflag",
    "kad",
    "mrm",
    "image_text.carzero",
    "image_text.mavl",
    "image_text.afloc",
    "image_text.prior",
)
