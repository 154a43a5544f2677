"""MedImageInsight: visual-layer/MedImageInsight at e31cae3 with small encoders.

Patched: mup and packages of Microsoft's service (imported, unused here), and einops (the two
patterns that the image encoder uses).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from support.models import golden
from support.originals.imports import imported

COMMIT = "visual-layer/MedImageInsight e31cae3"
CONFIG: dict[str, Any] = {
    "VERBOSE": False,
    "IMAGE_ENCODER": {
        "NAME": "davit_v1", "NUM_CLASSES": 0, "IMAGE_SIZE": [480, 480], "LOAD_PRETRAINED": False,
        "IMAGE_MEAN": [0.485, 0.456, 0.406], "IMAGE_STD": [0.229, 0.224, 0.225],
        "SPEC": {
            "DROP_PATH_RATE": 0.2, "PATCH_SIZE": [7, 3, 3, 3], "PATCH_STRIDE": [4, 2, 2, 2],
            "PATCH_PADDING": [3, 1, 1, 1], "PATCH_PRENORM": [False, True, True, True],
            "DIM_EMBED": [32, 32, 64, 96], "NUM_HEADS": [1, 1, 2, 3], "NUM_GROUPS": [1, 1, 2, 3],
            "DEPTHS": [1, 1, 2, 1], "WINDOW_SIZE": 12, "ENABLE_CHECKPOINT": False,
        },
    },
    "LANG_ENCODER": {
        "NAME": "transformer", "LOAD_PRETRAINED": False, "TOKENIZER": "clip", "CONTEXT_LENGTH": 77,
        "WIDTH": 128, "HEADS": 2, "LAYERS": 2, "AUTOGRESSIVE": False,
    },
    "UNICL_MODEL": {"DIM_PROJECTION": 48},
    "AUG": {"INTERPOLATION": "bicubic"},
    "TEST": {"CENTER_CROP": False},
}  # fmt: skip
"""As 2024.09.27/config.yaml, with smaller sizes."""


def tokenizer_folder(folder: Path) -> Path:
    """Where the released folder has CLIP's tokenizer."""
    place = folder / "language_model" / "clip_tokenizer_4.16.2"
    place.mkdir(parents=True, exist_ok=True)
    return place


def outputs(
    checkout: Path, tokenizer: Path, images: Tensor, texts: Sequence[str]
) -> tuple[Mapping[str, tuple[int, ...]], dict[str, Tensor]]:
    """Shapes of the released file, and embeddings and the last map by the port's code."""
    with _code(checkout) as load:
        lang = {**CONFIG["LANG_ENCODER"], "PRETRAINED_TOKENIZER": str(tokenizer)}
        network = load("MedImageInsight.UniCLModel").UniCLModel({**CONFIG, "LANG_ENCODER": lang})
        shapes = {k: tuple(v.shape) for k, v in golden.weights_of(network).items()}
        network.load_state_dict(golden.seeded_state(shapes))
        network.eval()
        tokens = network.tokenizer(
            list(texts), padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        given = {key: tokens[key] for key in ("input_ids", "attention_mask")}
        encoder, size, last = network.image_encoder, tuple(images.shape[-2:]), images
        for conv, block in zip(encoder.convs, encoder.blocks, strict=True):
            last, size = block(*conv(last, size))
        found = {
            "images": network.encode_image(images),
            "texts": network.encode_text(given),
            "last": last.transpose(1, 2).unflatten(2, size),
        }
    return shapes, found


def prepare(checkout: Path, pictures: Sequence[Any]) -> Tensor:
    """The port's test transform of grey pictures, which it converts to RGB."""
    with _code(checkout) as load:
        transform = load("MedImageInsight.ImageDataLoader.transforms.build").build_transforms
        steps = transform(CONFIG, False)
        return torch.stack([steps(Image.fromarray(p).convert("RGB")) for p in pictures])


def _code(checkout: Path) -> Any:
    given: dict[str, Any] = {
        "einops": {"rearrange": _rearrange, "repeat": None},
        "mup": {"MuReadout": nn.Linear, "set_base_shapes": None, "init": None},
        "mup.init": {},
    }
    loader = ModuleType("MedImageInsight.ImageDataLoader")
    loader.__path__ = [str(checkout / "MedImageInsight" / "ImageDataLoader")]
    given[loader.__name__] = loader
    unused = (
        "einops.layers", "einops.layers.torch", "fvcore", "fvcore.nn", "yacs", "yacs.config",
    )  # fmt: skip
    return imported([checkout], unused, given)


def _rearrange(x: Tensor, pattern: str, **sizes: int) -> Tensor:
    if pattern == "b (h w) c -> b c h w":
        return x.transpose(1, 2).unflatten(2, (sizes["h"], sizes["w"]))
    assert pattern == "b c h w -> b (h w) c"
    return x.flatten(2).transpose(1, 2)
