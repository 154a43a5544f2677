"""What several readers of one image agree on: labels by majority, overlapping boxes as one.

A finding is present where more than half of the image's readers say so. Only boxes of findings
that are present count; those of one finding that overlap by more than OVERLAP, directly or through
others, become one box whose corners are the means of theirs.
"""

from collections.abc import Iterable, Mapping, Sequence

from g2dbench.sample import Box

OVERLAP = 0.4
"""Intersection over union, the overlap at which VinBigData's competition calls two boxes one."""


def majority(votes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Labels from one mapping finding -> 0 or 1 per reader; half of an even number is absent."""
    findings = dict.fromkeys(finding for vote in votes for finding in vote)
    return {
        finding: int(2 * sum(vote.get(finding, 0) for vote in votes) > len(votes))
        for finding in findings
    }


def fuse(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Boxes with every group that overlaps replaced by its mean; their order does not matter."""
    groups: list[list[Box]] = []
    for box in sorted(boxes):
        near = [group for group in groups if any(_is_same(box, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), box])
    return tuple(sorted(_mean(group) for group in groups))


def _is_same(one: Box, other: Box) -> bool:
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
