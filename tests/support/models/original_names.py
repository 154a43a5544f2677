"""The modules of `support.originals` that describe a model."""

FILES = (
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
    "image_text.med_unic",
    "image_text.med_unic_vit",
    "image_text.alta",
)
"""Models whose source is one file, with what its text encoder needs beside it."""

FOLDERS = ("image_text.radzero",)
"""Models whose source is a folder of the hub."""

NAMES = (*FILES, *FOLDERS)
