"""The consensus of several radiologists: labels by majority vote, overlapping boxes merged.

A finding is present if more than half of the image's radiologists mark it. Only boxes of present
findings are used. Boxes of a finding whose IoU is above OVERLAP, directly or through other boxes,
are merged into one box with their mean corners.
"""

from collections.abc import Iterable, Mapping, Sequence

from g2dbench.sample import Box

OVERLAP = 0.4
"""Intersection over union (IoU) at which the VinBigData competition counts two boxes as equal."""


def majority_labels(votes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the labels by majority vote; votes: finding -> 0 or 1, per radiologist.

    A tie counts as absent.
    """
    findings = dict.fromkeys(finding for vote in votes for finding in vote)
    return {
        finding: int(2 * sum(vote.get(finding, 0) for vote in votes) > len(votes))
        for finding in findings
    }


def merge_boxes(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Replace each group of overlapping boxes by its mean; the order of boxes does not matter."""
    groups: list[list[Box]] = []
    for box in sorted(boxes):
        near = [group for group in groups if any(_overlaps(box, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), box])
    return tuple(sorted(_mean(group) for group in groups))


def _overlaps(one: Box, other: Box) -> bool:
    if one.finding != other.finding:
        return False
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    if width <= 0 or height <= 0:
        return False
    common = width * height
    return common > OVERLAP * (_area(one) + _area(other) - common)


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)


def _mean(group: list[Box]) -> Box:
    corners = (sum(values) / len(group) for values in zip(*(box[1:] for box in group), strict=True))
    return Box(group[0].finding, *corners)
