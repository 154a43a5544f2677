"""Parses label cells of CheXpert's labeler, in the tables of CheXpert and MIMIC-CXR."""

from collections.abc import Mapping, Sequence

from g2dbench.data.tables.labels import is_unlabeled, parse_label
from g2dbench.errors import BadData


class LabelParser:
    """Parses rows of label cells; a blank cell means that the finding has no label.

    Equal rows share one mapping: half a million images have only a few thousand different rows.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        self._findings = tuple(findings)
        self._known: dict[tuple[str, ...], Mapping[str, int] | None] = {}

    def labels(self, cells: Sequence[str], where: str) -> Mapping[str, int] | None:
        """Return finding -> 1, 0 or -1 of a row, or None if all cells are blank.

        Raises BadData, naming `where`, for an invalid cell.
        """
        key = tuple(cells)
        if key not in self._known:
            self._known[key] = self._parse(key, where)
        return self._known[key]

    def _parse(self, cells: tuple[str, ...], where: str) -> Mapping[str, int] | None:
        labels = {}
        for name, cell in zip(self._findings, cells, strict=True):
            if is_unlabeled(cell):
                continue
            value = parse_label(cell)
            if value is None:
                raise BadData(f"{where}: {name} is {cell!r}, not 1, 0, -1 or blank")
            labels[name] = value
        return labels or None
