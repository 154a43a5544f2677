"""The tables of docs/tasks/seg.md and det.md say what the code does."""

from pathlib import Path
from typing import Any

import pytest

from g2dbench.cards import TaskCard
from g2dbench.evaluation.detection.scores import box_statistics
from g2dbench.metrics.segmentation import OVERLAP_METRICS
from g2dbench.registry import Registry

PAGES = Path(__file__).parents[2] / "docs/tasks"
REGISTRY = Registry()


def protocol_rows(task: str) -> dict[str, list[str]]:
    """The rows of the first table, by protocol."""
    lines = (PAGES / f"{task}.md").read_text().split("## Scores")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) > 4 and row[0][:1] == "`"}


def seg_row(p: Any) -> list[str]:
    fit = p.fit
    numbers = (fit.lr, fit.weight_decay, fit.batch_size, fit.epochs, fit.patience)
    return [p.decoder, p.start, p.encoder, p.loss, p.augment, *(f"{n:g}" for n in numbers)]


def det_row(p: Any) -> list[str]:
    small = p.fit_small_fraction
    numbers = (p.fit.lr, p.fit.batch_size, small.lr, small.batch_size, p.fit.weight_decay)
    return [p.detector, p.encoder, *(f"{n:g}" for n in numbers), p.fit.schedule, p.monitor]


@pytest.mark.parametrize(("task", "row"), [("seg", seg_row), ("det", det_row)])
def test_the_protocol_table_is_that_of_the_code(task: str, row: Any) -> None:
    protocols = REGISTRY.find(TaskCard, task).load().PROTOCOLS
    written = protocol_rows(task)
    assert list(written) == list(protocols)
    for name, protocol in protocols.items():
        assert written[name] == row(protocol), name


def test_every_score_is_explained() -> None:
    page = (PAGES / "seg.md").read_text()
    names = {name.replace("_positive", "") for name in OVERLAP_METRICS} | {"hd95", "assd"}
    assert all(f"`{name}`" in page for name in names)
    page = (PAGES / "det.md").read_text()
    explained = box_statistics.__doc__ or ""
    for name in ("map", "map_coco", "ap50", "ap75", "map_conf50", "map_skip_empty", "froc_center"):
        assert f"`{name}`" in page
        assert f"`{name}`" in explained
