"""Object annotations in COCO's JSON: one image after the other, with its boxes and shapes.

    images       id, file_name, height, width
    annotations  image_id, category_id, bbox [x, y, width, height], segmentation (optional)
    categories   id, name

A segmentation is a list of polygons [x, y, x, y, ...] or run lengths
{"counts": [...] or compressed text, "size": [height, width]}.

Annotation may be partial. Where an annotation of an image has no outline, or one that cannot be
read, the image's masks are not known; where one has no bbox, or is a crowd (several objects in
one), its boxes are not. What is known stays, and the image's notes tell.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from g2dbench.data.annotations import rle
from g2dbench.data.annotations.masks import Mask, RunMasks
from g2dbench.data.annotations.shapes import Polygon, ShapeMasks
from g2dbench.data.tables.csv import number
from g2dbench.data.tables.files import read_bytes
from g2dbench.data.tables.records import Note
from g2dbench.errors import BadData, BadResult
from g2dbench.sample import Box

MAX_NUMBERS = 20_000
"""Of one polygon; what a person or a network outlines has some hundred."""


@dataclass(frozen=True)
class CocoImage:
    """One entry of `images` with what is drawn on it.

    file: as written; frame: (height, width) of the boxes; boxes, masks: None where they are not
    known; masks also where no annotation of the file has a segmentation. notes: what is not known,
    and why. problem: why the entry cannot be used, "" if it can.
    """

    file: str
    frame: tuple[int, int]
    boxes: tuple[Box, ...] | None = ()
    masks: Mapping[str, Mask] | None = None
    notes: tuple[str, ...] = ()
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


def note_unlisted(path: Path) -> Iterator[Note]:
    """A note where annotations are of images that the file does not list; errors as above."""
    content = _load(path)
    listed = {image["id"] for image in content["images"]}
    owners = [item["image_id"] for item in content["annotations"]]
    strange = [image for image in owners if image not in listed]
    if strange:
        yield Note(
            f"{len(strange)} annotations of {path.name} are of images that it does not list, such "
            f"as the image {strange[0]!r}"
        )


def categories(path: Path) -> list[str]:
    """The names of the categories, in the file's order."""
    return [str(item["name"]) for item in _load(path)["categories"]]


def has_masks(path: Path) -> bool:
    """Whether any annotation has a segmentation."""
    return any(item.get("segmentation") for item in _load(path)["annotations"])


_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id"),
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
            if any(isinstance(item[key], list | dict) for key in keys):
                raise BadData(
                    f"{path}: item {place} of {part!r} holds a list where a value belongs"
                )
    _check_ids(path, content)
    return dict(content)


def _check_ids(path: Path, content: dict[str, Any]) -> None:
    """BadData unless ids are numbers or names, used once, and every image names its file.

    An annotation whose image_id is of another type than the images' ids would be lost, and its
    image taken for one where nothing is.
    """
    for part in ("images", "categories"):
        ids = [item["id"] for item in content[part]]
        if wrong := [one for one in ids if type(one) not in (int, str)]:
            raise BadData(f"{path}: {wrong[0]!r} of {part!r} is no id")
        if len(set(ids)) < len(ids):
            twice = next(one for one, count in Counter(ids).items() if count > 1)
            raise BadData(f"{path}: {part!r} uses the id {twice!r} twice")
    if not all(str(item["file_name"] or "") for item in content["images"]):
        raise BadData(f"{path}: an image has no file_name")
    kinds = {type(item["id"]) for item in content["images"]}
    for place, item in enumerate(content["annotations"]):
        if kinds and type(item["image_id"]) not in kinds:
            raise BadData(
                f"{path}: annotation {place} is of {item['image_id']!r}, which is no id of an image"
            )


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
    findings = [_finding(item, names) for item in items]
    boxes, unboxed = _boxes(items, findings)
    if not segmented:
        return CocoImage(file, frame, boxes, None, unboxed)
    masks, unmasked = _masks(items, findings, frame)
    return CocoImage(file, frame, boxes, masks, (*unboxed, *unmasked))


def _finding(item: dict[str, Any], names: Mapping[Any, str]) -> str:
    if item["category_id"] not in names:
        raise BadData(f"there is no category {item['category_id']!r}")
    return names[item["category_id"]]


def _boxes(
    items: list[dict[str, Any]], findings: list[str]
) -> tuple[tuple[Box, ...] | None, tuple[str, ...]]:
    """The boxes of an image, or None and why they are not all known; BadData if one is broken."""
    if any(item.get("iscrowd") in (1, "1") for item in items):
        return None, ("an annotation is a crowd, so that single boxes are not known",)
    if not all(item.get("bbox") for item in items):
        return None, ("an annotation has no bbox, so that the image's boxes are not known",)
    return tuple(map(_box, items, findings)), ()


def _box(item: dict[str, Any], finding: str) -> Box:
    corners = item["bbox"]
    if not isinstance(corners, list) or len(corners) != 4:
        raise BadData(f"the bbox {str(corners)[:60]} is no list of four numbers")
    x, y, width, height = (number(str(value), "a number of a bbox") for value in corners)
    return Box(finding, x, y, x + width, y + height)


def _masks(
    items: list[dict[str, Any]], findings: list[str], frame: tuple[int, int]
) -> tuple[Mapping[str, Mask] | None, tuple[str, ...]]:
    """The masks of an image, or None and why they are not all known."""
    shapes: list[Polygon] = []
    runs: dict[str, list[Sequence[int]]] = {}
    try:
        for item, finding in zip(items, findings, strict=True):
            _add_segmentation(item.get("segmentation"), finding, frame, shapes, runs)
    except BadData as error:
        return None, (f"{error}, so that the image's masks are not known",)
    return _Drawn(ShapeMasks(shapes, frame), RunMasks(runs, frame)), ()


def _add_segmentation(
    found: object,
    finding: str,
    frame: tuple[int, int],
    shapes: list[Polygon],
    runs: dict[str, list[Sequence[int]]],
) -> None:
    """Sort one segmentation into polygons or run lengths; BadData if it is neither."""
    if not found:
        raise BadData(f"an annotation of {finding!r} has no outline")
    if isinstance(found, list):
        shapes += [_polygon(part, finding) for part in found]
        return
    coded = found if isinstance(found, dict) else {}
    if coded.get("size") != list(frame):
        raise BadData(f"run lengths of {finding!r} are not of the image's size")
    runs.setdefault(finding, []).append(_runs(coded.get("counts"), finding, frame))


def _runs(counts: object, finding: str, frame: tuple[int, int]) -> list[int]:
    """Run lengths as numbers, from numbers or from text."""
    try:
        numbers = rle.runs(counts, frame).tolist() if isinstance(counts, str) else counts
    except BadResult as error:
        raise BadData(f"the compressed run lengths of {finding!r} are broken") from error
    if not isinstance(numbers, list) or not all(isinstance(count, int) for count in numbers):
        raise BadData(f"an outline of {finding!r} is neither polygons nor run lengths")
    if numbers and not (min(numbers) >= 0 and sum(numbers) <= frame[0] * frame[1]):
        raise BadData(f"run lengths of {finding!r} do not lie in the image")
    return numbers


def _polygon(part: object, finding: str) -> Polygon:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        raise BadData(f"a polygon of {finding!r} has fewer than three corners")
    if len(part) > MAX_NUMBERS:
        raise BadData(f"a polygon of {finding!r} has more than {MAX_NUMBERS // 2:,} corners")
    try:
        values = [number(str(value), "it") for value in part]
    except BadData as error:
        raise BadData(f"a polygon of {finding!r} has a coordinate that is no number") from error
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
