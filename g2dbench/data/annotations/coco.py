"""Object annotations in the JSON format of COCO, read image by image.

    images       id, file_name, height, width
    annotations  image_id, category_id, bbox [x, y, width, height], segmentation (optional)
    categories   id, name

A segmentation is a list of polygons [x, y, x, y, ...] or run lengths
{"counts": [...] or compressed text, "size": [height, width]}.

An image may be annotated in part. Its masks are unknown if one of its annotations has no
segmentation or an unreadable one. Its boxes are unknown if one of its annotations has no bbox or is
a crowd (several objects in one). The known part is used, and the notes of the image say what is
unknown.
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

MAX_COORDINATES = 20_000
"""Coordinates of one polygon at most; real outlines have some hundreds."""


@dataclass(frozen=True)
class CocoImage:
    """One entry of `images` with its annotations.

    file: the name as written; frame: (height, width) in which the boxes are given; boxes, masks:
    None if unknown; masks are None also if no annotation of the file has a segmentation; notes:
    what is unknown, and why; problem: why the entry cannot be used, "" if it can.
    """

    file: str
    frame: tuple[int, int]
    boxes: tuple[Box, ...] | None = ()
    masks: Mapping[str, Mask] | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


def read_coco(path: Path) -> Iterator[CocoImage]:
    """Yield every image of the file, annotated or not, in the order of the file.

    BadData: the file does not exist or is not JSON in COCO's format. A fault in the annotations of
    one image is described in its `problem`.
    """
    content = _load(path)
    names = {item["id"]: str(item["name"]) for item in content["categories"]}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for item in content["annotations"]:
        by_image.setdefault(item["image_id"], []).append(item)
    segmented = any(item.get("segmentation") for item in content["annotations"])
    for image in content["images"]:
        file, items = str(image["file_name"]), by_image.get(image["id"], [])
        try:
            yield _make_image(file, _frame(image), items, names, segmented)
        except BadData as error:
            yield CocoImage(file, (0, 0), problem=f"{path.name}, {file}: {error}")


def note_unlisted(path: Path) -> Iterator[Note]:
    """Yield a note if annotations belong to images that the file does not list.

    BadData as in `read_coco`.
    """
    content = _load(path)
    listed = {image["id"] for image in content["images"]}
    owners = [item["image_id"] for item in content["annotations"]]
    unlisted = [image for image in owners if image not in listed]
    if unlisted:
        yield Note(
            f"{len(unlisted)} annotations of {path.name} are of images that it does not list, such "
            f"as the image {unlisted[0]!r}"
        )


def categories(path: Path) -> list[str]:
    """Return the names of the categories in the order of the file."""
    return [str(item["name"]) for item in _load(path)["categories"]]


def has_masks(path: Path) -> bool:
    """Whether any annotation has a segmentation."""
    return any(item.get("segmentation") for item in _load(path)["annotations"])


_REQUIRED_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("image_id", "category_id"),
    "categories": ("id", "name"),
}


def _load(path: Path) -> dict[str, Any]:
    """Read the JSON and check its structure; BadData names the faulty item."""
    try:
        content = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"the annotations {path} cannot be read: {error}") from error
    for part, keys in _REQUIRED_KEYS.items():
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
    """BadData unless ids are unique numbers or texts, and every image names its file.

    An image_id of another type than the ids of the images is an error too: the annotation would be
    lost, and its image would count as one without findings.
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
    """(height, width) of an entry of `images`; BadData if they are not positive numbers."""
    height, width = (number(str(image[name]), f"its {name}") for name in ("height", "width"))
    if min(height, width) < 1:
        raise BadData(f"it claims {height:g} x {width:g} pixels")
    return int(height), int(width)


def _make_image(
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
    """Return the boxes of an image, or None and the reason; BadData if a box is malformed."""
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
    """Return the masks of an image, or None and the reason."""
    shapes: list[Polygon] = []
    runs: dict[str, list[Sequence[int]]] = {}
    try:
        for item, finding in zip(items, findings, strict=True):
            _sort_segmentation(item.get("segmentation"), finding, frame, shapes, runs)
    except BadData as error:
        return None, (f"{error}, so that the image's masks are not known",)
    return _UnitedMasks(ShapeMasks(shapes, frame), RunMasks(runs, frame)), ()


def _sort_segmentation(
    segmentation: object,
    finding: str,
    frame: tuple[int, int],
    shapes: list[Polygon],
    runs: dict[str, list[Sequence[int]]],
) -> None:
    """Append one segmentation to the polygons or the run lengths; BadData if it is neither."""
    if not segmentation:
        raise BadData(f"an annotation of {finding!r} has no outline")
    if isinstance(segmentation, list):
        shapes += [_polygon(part, finding) for part in segmentation]
        return
    coded = segmentation if isinstance(segmentation, dict) else {}
    if coded.get("size") != list(frame):
        raise BadData(f"run lengths of {finding!r} are not of the image's size")
    runs.setdefault(finding, []).append(_runs(coded.get("counts"), finding, frame))


def _runs(counts: object, finding: str, frame: tuple[int, int]) -> list[int]:
    """Return run lengths as numbers, from numbers or compressed text; BadData if malformed."""
    try:
        numbers = rle.parse_runs(counts, frame).tolist() if isinstance(counts, str) else counts
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
    if len(part) > MAX_COORDINATES:
        raise BadData(f"a polygon of {finding!r} has more than {MAX_COORDINATES // 2:,} corners")
    try:
        values = [number(str(value), "it") for value in part]
    except BadData as error:
        raise BadData(f"a polygon of {finding!r} has a coordinate that is no number") from error
    return Polygon(finding, tuple(zip(values[0::2], values[1::2], strict=True)))


class _UnitedMasks(Mapping[str, Mask]):
    """Masks from polygons and run lengths, united by finding."""

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
