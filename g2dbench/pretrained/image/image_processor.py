"""The image processor of a transformers folder as a `Preprocess`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from g2dbench.errors import BadCheckpoint
from g2dbench.preprocess import Preprocess, Resampling
from g2dbench.pretrained.hub import read_json

_RESAMPLINGS: dict[int, Resampling] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""PIL's resampling constants, which image processors store as numbers."""


def read_preprocess(folder: Path, default: Preprocess, side: int | None) -> Preprocess:
    """The folder's image processor; entries that it lacks are those of `default`.

    side: the only input size that the model takes, or None. Raises BadCheckpoint for a missing or
    unreadable file, and for steps that `Preprocess` does not have.
    """
    file, settings = _read_processor(folder)
    resize = settings.get("size") or default.resize or default.size
    crop = settings.get("crop_size") or default.size
    is_stretched = "height" in resize if isinstance(resize, dict) else default.fit == "stretch"
    is_cropped = bool(settings.get("do_center_crop", not is_stretched))
    size = _square_side(crop if is_cropped else resize, file)
    resampling = _RESAMPLINGS.get(settings.get("resample", 3))
    is_supported = (
        (side is None or size == side)
        and resampling is not None
        and settings.get("do_resize", True)
        and settings.get("do_normalize", True)
        and abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) < 1e-9
        and (is_cropped or is_stretched)
    )
    if not is_supported:
        wanted = "" if side is None else f", or not to the {side} pixels of config.json"
        raise BadCheckpoint(
            f"{file} prepares images in a way that g2dbench does not support{wanted}: {settings}"
        )
    assert resampling is not None
    return replace(
        default,
        size=size,
        resize=_square_side(resize, file),
        fit="stretch" if is_stretched else "crop",
        mean=tuple(settings.get("image_mean", default.mean)),
        std=tuple(settings.get("image_std", default.std)),
        resampling=resampling,
    )


def _read_processor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The image processor's settings, from their own file or from the multimodal processor's."""
    file, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    if not file.is_file() and whole.is_file():
        return whole, read_json(whole).get("image_processor", {})
    return file, read_json(file)


def _square_side(size: Any, file: Path) -> int:
    """224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    sides = set(size.values()) if isinstance(size, dict) else {size}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise BadCheckpoint(
            f"{file} asks for images of {size}; g2dbench supports square inputs only"
        )
    return side
