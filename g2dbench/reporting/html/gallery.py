"""Galleries: images of hits, false positives and misses, with what is drawn over them.

Images are small JPEGs, stored once each; overlays are boxes and outlines in their pixels, and heat
maps as PNG, so that the page can switch them on and off.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from g2dbench.data.images.image_file import GrayImage
from g2dbench.figures.contact_sheet import to_colors
from g2dbench.figures.overlay import Boxes, Overlay, outlines
from g2dbench.reporting.errors.case_overlays import Films, overlay_of
from g2dbench.reporting.errors.cases import KINDS, Case, find_cases
from g2dbench.reporting.html.records import number
from g2dbench.sample import Sample

SIDE = 256
"""Longer side of an image in pixels."""

PER_KIND = 4
"""Images of each finding and kind."""

_QUALITY, _HEAT_OPACITY, _HEAT_SIDE = 80, 130, 64


@dataclass
class Pictures:
    """The images of all galleries: name -> position, and their data addresses and sizes."""

    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    stored: list[dict[str, Any]] = field(default_factory=list)

    def add(self, data: str, sample: Sample) -> int:
        """The position of an image; it is encoded when it is added for the first time."""
        key = data, sample.id
        if key not in self.positions:
            self.positions[key] = len(self.stored)
            self.stored.append(_picture(sample.image))
        return self.positions[key]


def gallery_cards(
    table: pd.DataFrame, data: str, films: Films, pictures: Pictures
) -> list[dict[str, Any]]:
    """The clearest cases of each finding and kind as cards.

    BadResult or BadData if the predictions have no cases, or are not of these images.
    """
    chosen = select(find_cases(table), PER_KIND)
    rows = table.reset_index(drop=True)
    cards = []
    for case in chosen:
        sample = films.sample(case.id)
        overlay = overlay_of(case, dict(rows.iloc[case.row]), sample)
        scale = _scale(sample.image)
        cards.append(
            {
                "picture": pictures.add(data, sample),
                "id": case.id,
                "finding": case.finding,
                "kind": case.kind,
                "measure": case.measure,
                "value": number(case.value),
                **_drawn(overlay, scale),
            }
        )
    return cards


def select(cases: Sequence[Case], count: int) -> list[Case]:
    """The first `count` cases of each finding and kind, sorted by finding, kind and strength."""
    groups: dict[tuple[str, int], list[Case]] = defaultdict(list)
    for case in cases:
        group = groups[case.finding, KINDS.index(case.kind)]
        if len(group) < count:
            group.append(case)
    return [case for key in sorted(groups) for case in groups[key]]


def _scale(image: GrayImage) -> float:
    return float(min(1.0, SIDE / max(image.shape)))


def _picture(image: GrayImage) -> dict[str, Any]:
    height, width = (max(1, round(side * _scale(image))) for side in image.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=_QUALITY)
    return {"src": _address("jpeg", packed), "width": width, "height": height}


def _address(kind: str, packed: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"


def _drawn(overlay: Overlay, scale: float) -> dict[str, Any]:
    """The overlay in pixels of the small image; absent parts are left out."""
    truth = overlay.truth_boxes if overlay.truth_mask is None else ()
    parts: dict[str, Any] = {
        "truth": _boxes(truth, scale),
        "truth_outline": _outline(overlay.truth_mask, scale),
        "predicted": _boxes(overlay.predicted_boxes, scale),
        "confidences": [number(each) for each in overlay.confidences],
        "predicted_outline": _outline(overlay.predicted_mask, scale),
    }
    if overlay.heat is not None and overlay.heat_range is not None:
        parts["heat"] = _heat(overlay.heat)
        parts["heat_range"] = [number(each) for each in overlay.heat_range]
    return {name: value for name, value in parts.items() if value}


def _boxes(boxes: Boxes, scale: float) -> list[list[float]]:
    return [[round(each * scale, 1) for each in box] for box in boxes]


def _outline(mask: NDArray[np.bool_] | None, scale: float) -> str:
    """The borders of a mask as the path of an SVG; empty without a mask."""
    paths = []
    for points in outlines(mask):
        text = "L".join(f"{x:.1f} {y:.1f}" for x, y in points * scale)
        paths.append(f"M{text}Z")
    return "".join(paths)


def _heat(heat: NDArray[np.float32]) -> str:
    """A half-transparent PNG of the map; pixels that the model does not see stay clear."""
    shrink = min(1.0, _HEAT_SIDE / max(heat.shape))
    height, width = (max(1, round(side * shrink)) for side in heat.shape)
    seen = ~np.isnan(heat)
    small = cv2.resize(np.nan_to_num(heat), (width, height), interpolation=cv2.INTER_AREA)
    opacity = cv2.resize(seen.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    colors = to_colors(np.clip(small, 0, 1))
    alpha = (opacity * _HEAT_OPACITY).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(np.dstack([colors, alpha])).save(packed, "PNG", optimize=True)
    return _address("png", packed)
