"""Label cells as CheXpert's labeler writes them, in CheXpert's and MIMIC-CXR's tables."""

from collections.abc import Mapping, Sequence

from g2dbench.data.tables.labels import is_unlabeled, parse_label
from g2dbench.errors import BadData


class Judgements:
    """Rows of cells as labels; a blank cell is a finding that nobody judged.

    Rows that say the same share one mapping: half a million images have a few thousand different
    ones.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        self._findings = tuple(findings)
        self._known: dict[tuple[str, ...], Mapping[str, int] | None] = {}

    def labels(self, cells: Sequence[str], where: str) -> Mapping[str, int] | None:
        """Finding -> 1, 0 or -1 of one row; None if all are blank; BadData names the place."""
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
