"""Object annotations in COCO's JSON: one image after the other, with its boxes and shapes.

    images       id, file_name, height, width
    annotations  image_id, category_id, bbox [x, y, width, height], segmentation (optional)
    categories   id, name

A segmentation is a list of polygons [x, y, x, y, ...] or uncompressed run lengths
{"counts": [...], "size": [height, width]}; compressed run lengths (text) are refused.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from g2dbench.data.annotations.masks import Mask, RunMasks
from g2dbench.data.annotations.shapes import Polygon, ShapeMasks
from g2dbench.data.tables.csv import number
from g2dbench.data.tables.files import read_bytes
from g2dbench.errors import BadData
from g2dbench.sample import Box

MAX_NUMBERS = 20_000
"""Of one polygon; what a person or a network outlines has some hundred."""


@dataclass(frozen=True)
class CocoImage:
    """One entry of `images` with what is drawn on it.

    file: as written; frame: (height, width) of the boxes; masks: None where no annotation of the
    file has a segmentation. problem: why the entry cannot be used, "" if it can.
    """

    file: str
    frame: tuple[int, int]
    boxes: tuple[Box, ...] = ()
    masks: Mapping[str, Mask] | None = None
    problem: str = ""


def read_coco(path: Path) -> Iterator[CocoImage]:
    """Every image of the file, annotated or not, in the file's order.

    BadData: no such file, no JSON, or not of COCO's form. What is wrong with one image's
    annotations is told in its `problem`.
    """
    content = _load(path)
    names = {item["id"]: str(item["name"]) for item in content["categories"]}
    drawn: dict[Any, list[dict[str, Any]]] = {}
    for item in content["annotations"]:
        drawn.setdefault(item["image_id"], []).append(item)
    segmented = any(item.get("segmentation") for item in content["annotations"])
    for image in content["images"]:
        file, items = str(image["file_name"]), drawn.get(image["id"], [])
        try:
            yield _annotated(file, _frame(image), items, names, segmented)
        except BadData as error:
            yield CocoImage(file, (0, 0), problem=f"{path.name}, {file}: {error}")


def categories(path: Path) -> list[str]:
    """The names of the categories, in the file's order."""
    return [str(item["name"]) for item in _load(path)["categories"]]


def has_masks(path: Path) -> bool:
    """Whether any annotation has a segmentation."""
    return any(item.get("segmentation") for item in _load(path)["annotations"])


_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"the annotations {path} cannot be read: {error}") from error
    for part, keys in _KEYS.items():
        items = content.get(part) if isinstance(content, dict) else None
        if not isinstance(items, list):
            raise BadData(f"{path} is not in COCO's form: it has no list {part!r}")
        for place, item in enumerate(items):
            if not isinstance(item, dict) or not set(keys) <= item.keys():
                raise BadData(f"{path}: item {place} of {part!r} lacks one of {', '.join(keys)}")
            if any(isinstance(item[key], list | dict) for key in keys if key != "bbox"):
                raise BadData(
                    f"{path}: item {place} of {part!r} holds a list where a value belongs"
                )
    _check_ids(path, content)
    return dict(content)


def _check_ids(path: Path, content: dict[str, Any]) -> None:
    """BadData unless ids are numbers or names, used once, and no image or annotation lacks one."""
    for part in ("images", "categories"):
        ids = [item["id"] for item in content[part]]
        wrong = next((one for one in ids if type(one) not in (int, str)), None)
        if wrong is not None:
            raise BadData(f"{path}: {wrong!r} of {part!r} is no id")
        if len(set(ids)) < len(ids):
            twice = next(one for one, count in Counter(ids).items() if count > 1)
            raise BadData(f"{path}: {part!r} uses the id {twice!r} twice")
    if not all(str(item["file_name"] or "") for item in content["images"]):
        raise BadData(f"{path}: an image has no file_name")
    known = {item["id"] for item in content["images"]}
    for place, item in enumerate(content["annotations"]):
        if item["image_id"] not in known:
            raise BadData(f"{path}: annotation {place} is of {item['image_id']!r}, no listed image")


def _frame(image: dict[str, Any]) -> tuple[int, int]:
    height, width = (number(str(image[name]), f"its {name}") for name in ("height", "width"))
    if min(height, width) < 1:
        raise BadData(f"it claims {height:g} x {width:g} pixels")
    return int(height), int(width)


def _annotated(
    file: str,
    frame: tuple[int, int],
    items: list[dict[str, Any]],
    names: Mapping[Any, str],
    segmented: bool,
) -> CocoImage:
    boxes = tuple(_box(item, names) for item in items)
    if not segmented:
        return CocoImage(file, frame, boxes)
    shapes: list[Polygon] = []
    runs: dict[str, list[list[int]]] = {}
    for box, item in zip(boxes, items, strict=True):
        _add_segmentation(item.get("segmentation"), box.finding, frame, shapes, runs)
    return CocoImage(file, frame, boxes, _Drawn(ShapeMasks(shapes, frame), RunMasks(runs, frame)))


def _box(item: dict[str, Any], names: Mapping[Any, str]) -> Box:
    if item["category_id"] not in names:
        raise BadData(f"there is no category {item['category_id']!r}")
    corners = item["bbox"]
    if not isinstance(corners, list) or len(corners) != 4:
        raise BadData(f"the bbox {str(corners)[:60]} is no list of four numbers")
    x, y, width, height = (number(str(value), "a number of a bbox") for value in corners)
    return Box(names[item["category_id"]], x, y, x + width, y + height)


def _add_segmentation(
    found: object,
    finding: str,
    frame: tuple[int, int],
    shapes: list[Polygon],
    runs: dict[str, list[list[int]]],
) -> None:
    """Sort one segmentation into polygons or run lengths; BadData if it is neither."""
    if isinstance(found, list) and found:
        shapes += [_polygon(part, finding) for part in found]
        return
    coded = found if isinstance(found, dict) else {}
    counts = coded.get("counts")
    if not isinstance(counts, list) or not all(isinstance(count, int) for count in counts):
        raise BadData(
            f"a segmentation of {finding!r} is neither polygons nor uncompressed run lengths"
        )
    if counts and not 0 <= min(counts) <= max(counts) <= frame[0] * frame[1]:
        raise BadData(f"run lengths of {finding!r} do not lie in the image")
    if coded.get("size") != list(frame):
        raise BadData(f"run lengths of {finding!r} are not of the image's size {frame}")
    runs.setdefault(finding, []).append(counts)


def _polygon(part: object, finding: str) -> Polygon:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        raise BadData(f"a polygon of {finding!r} has no three corners")
    if len(part) > MAX_NUMBERS:
        raise BadData(f"a polygon of {finding!r} has {len(part) // 2:,} corners")
    values = [number(str(value), "a polygon's coordinate") for value in part]
    return Polygon(finding, tuple(zip(values[0::2], values[1::2], strict=True)))


class _Drawn(Mapping[str, Mask]):
    """Masks from polygons and from run lengths, united by finding."""

    def __init__(self, shapes: ShapeMasks, runs: RunMasks) -> None:
        self._parts = (shapes, runs)

    def __getitem__(self, finding: str) -> Mask:
        parts = [part[finding] for part in self._parts if finding in part]
        if not parts:
            raise KeyError(finding)
        united: Mask = np.logical_or.reduce(parts)
        return united

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(finding for part in self._parts for finding in part))

    def __len__(self) -> int:
        return len(list(iter(self)))
